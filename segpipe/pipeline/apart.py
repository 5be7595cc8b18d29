"""Files that a command is to write, which may be neither one another nor what it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from segpipe.errors import ConfigError


def expect_apart(outputs: Mapping[str, Path | None], inputs: Iterable[Path] = ()) -> None:
    """Refuse to write a file over another one of the same call, or over one that it reads.

    Parameters
    ----------
    outputs : mapping of str to Path or None
        By the option that names it; None: not asked for.
    inputs : iterable of Path

    Raises
    ------
    ConfigError
    """
    taken = {path.resolve(): "read" for path in inputs}
    for option, path in outputs.items():
        if path is None:
            continue
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise ConfigError(
                f"{option}: expected a file of its own; received {path}, which is {other} too. "
                "Give it another name."
            )
