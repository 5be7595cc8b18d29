"""A content-addressed store of folders: each whole and unharmed, or not there.

An entry lies in ``ROOT/ab/abcd…``, the key in full. It is written to a temporary folder beside
the entries and renamed; of two processes that write one entry at once, the second discards its
own. Every file's SHA-256 lies in ``files.json``; an entry that differs from it counts as absent
and is replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from segpipe.errors import StorageError
from segpipe.files import UMASK, temporary_folder

_INDEX = "files.json"


def entry_folder(root: Path, key: str) -> Path:
    """Where the entry of a key lies, or would."""
    return Path(root) / key[:2] / key


def is_whole(folder: Path) -> bool:
    """Whether an entry is there with every file as it was written."""
    try:
        digests = json.loads((folder / _INDEX).read_bytes())
        return bool(digests) and all(
            _sha256((folder / name).read_bytes()) == digest for name, digest in digests.items()
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def find(root: Path, key: str) -> Path | None:
    """Folder of a whole entry; None if there is none, or it is damaged."""
    folder = entry_folder(root, key)
    return folder if is_whole(folder) else None


def put(root: Path, key: str, files: Mapping[str, bytes]) -> Path:
    """Store an entry, unless a whole one is there by now.

    Parameters
    ----------
    root : Path
        Made if need be.
    key : str
    files : mapping of str to bytes
        File name to content.

    Returns
    -------
    Path
        Folder of the entry: this one, or the one that another process stored first.

    Raises
    ------
    StorageError
        If the folder cannot be written (full disk, missing rights).
    """
    root = Path(root)
    try:
        with temporary_folder(root) as temporary:
            _write_files(temporary, files)
            return _install(temporary, entry_folder(root, key))
    except OSError as error:
        raise StorageError(
            f"{root}: the cache cannot be written; expected a writable folder with free space; "
            f"received {error}. Free space, mend its rights, or choose another output folder."
        ) from error


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digests = {name: _sha256(content) for name, content in files.items()}
    (folder / _INDEX).write_text(json.dumps(digests))
    folder.chmod(0o777 & ~UMASK)


def _install(temporary: Path, folder: Path) -> Path:
    folder.parent.mkdir(exist_ok=True)
    for _ in range(10):
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.exists():
                raise
        else:
            return folder
        if is_whole(folder):
            return folder
        # Damaged: moved aside whole, so that nobody sees half of it, then removed.
        aside = temporary.with_name(temporary.name + ".damaged")
        try:
            os.rename(folder, aside)
        except FileNotFoundError:
            continue  # another process was faster
        shutil.rmtree(aside, ignore_errors=True)
    raise OSError(f"{folder}: could not be replaced")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
