"""Names of folders stay out of what is passed on: they can be names of people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from segpipe.errors import DataError

_FILE_ENDS = r"\.(?:gz|nii|json|csv|tsv|npy|parquet|ya?ml)(?![\w\\/]|\.\w)"
_PATH_ENDS = rf"{_FILE_ENDS}|[:;]\s|\s['\"(\[]*(?:[A-Za-z]:)?[\\/]"
_FOLDERS = (
    # from a root to the last separator before something that ends a path, whatever lies between
    rf"(?<![\w:.])(?:[A-Za-z]:|\.\.?|~\w*)?[\\/](?!\s)(?:(?!{_PATH_ENDS}).)*[\\/]"
    # relative, without blanks, before a file's name
    rf"|(?<![\w\\/])(?:[^\s\\/:;,'\"()]+[\\/])+(?=[^\s\\/]*?{_FILE_ENDS})"
)
_NAME = rf"(?:[^\\/:;]*?{_FILE_ENDS}|[^\s\\/:;,'\"]*)"
_ONLY_FOLDERS = re.compile(_FOLDERS)
_WHOLE = re.compile(rf"(?:{_FOLDERS}){_NAME}")


def without_folders(text: str, known: Iterable[str | Path] = ()) -> str:
    """``text`` with every path cut to its file name.

    Parameters
    ----------
    text : str
        Words with paths in them. What is no known path is found by its looks: a folder may hold
        blanks, commas, quotes and brackets; one with a blank after a colon or semicolon, or in a
        relative path, is found where it is known only.
    known : iterable of str or Path
        Files whose folders are cut wherever they occur.

    Returns
    -------
    str

    Examples
    --------
    >>> without_folders("/home/anna/scans of May/a_0000.nii.gz: file is truncated")
    'a_0000.nii.gz: file is truncated'
    >>> without_folders("no file b; c/a.nii", ["b; c/a.nii"])
    'no file a.nii'
    """
    folders = {re.split(r"[^\\/]*$", str(path))[0] for path in known} - {""}
    for folder in sorted(folders, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(folder)}", "", text)
    return _ONLY_FOLDERS.sub("", text)


def without_paths(text: str) -> str:
    """``text`` with ``<path>`` in place of what looks like a path.

    Examples
    --------
    >>> without_paths("cannot read /home/anna/my scans/a b.nii or 1/2 of it")
    'cannot read <path> or 1/2 of it'
    """
    return _WHOLE.sub("<path>", text)


def error_without_folders(error: BaseException, known: Iterable[str | Path] = ()) -> str:
    """What an error says, without the folders of what it is about and of ``known`` files."""
    where = [error.where] if isinstance(error, DataError) else []
    return without_folders(str(error), [*known, *where])
