"""Files that a command is to write, which may be neither one another nor what it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from segpipe.data.layouts.case import image_stem
from segpipe.errors import ConfigError

_DESCRIBES = {"dataset.json", "dataset_description.json", "participants.tsv", "manifest.csv"}


def expect_apart(outputs: Mapping[str, Path | None], inputs: Iterable[Path] = ()) -> None:
    """Refuse to write a file over another one of the same call, or over one that it reads.

    What is read of a folder are images, and the files that describe a dataset.

    Parameters
    ----------
    outputs : mapping of str to Path or None
        By the option that names it; None: not asked for.
    inputs : iterable of Path
        Files and folders.

    Raises
    ------
    ConfigError
    """
    given = [path.resolve() for path in inputs]
    taken = dict.fromkeys(given, "read")
    for option, path in outputs.items():
        if path is None:
            continue
        whole = path.resolve()
        other = taken.setdefault(whole, option)
        if whole.exists() and _is_read(whole) and any(map(whole.is_relative_to, given)):
            other = "read"
        if other != option:
            raise ConfigError(
                f"{option}: expected a file of its own; received {path}, which is {other} too. "
                "Give it another name."
            )


def _is_read(path: Path) -> bool:
    return image_stem(path.name) is not None or path.name in _DESCRIBES
