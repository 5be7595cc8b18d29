"""Case and patient identifiers stay out of tags and parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from segpipe.errors import DataError
from segpipe.folders import without_paths

_LONGEST_ERROR = 500


class Identifiers:
    """The names that a dataset gives its cases and patients, and how to leave them out.

    A name without a letter and of fewer than five digits identifies nobody and would be found
    in every list of numbers; it is let through.

    Examples
    --------
    >>> names = Identifiers()
    >>> names.add(["lit01", "7"])
    >>> names.hide("NaN loss in lit01_0001, batch 7")
    'NaN loss in <case>_0001, batch 7'
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, names: Iterable[str]) -> None:
        """Names to leave out from now on."""
        self._names.update(name for name in names if any(map(str.isalpha, name)) or len(name) >= 5)
        longest_first = sorted(self._names, key=lambda name: (-len(name), name))
        alternatives = "|".join(map(re.escape, longest_first))
        self._pattern = (
            re.compile(rf"(?<![A-Za-z0-9])(?:{alternatives})(?![A-Za-z0-9])")
            if longest_first
            else None
        )

    def hide(self, text: str) -> str:
        """The text with ``<case>`` in place of each known name."""
        return self._pattern.sub("<case>", text) if self._pattern else text

    def one_line(self, error: BaseException) -> str:
        """An error as a tag: one line, no known name, no path, at most 500 characters."""
        if isinstance(error, DataError):  # its ``where`` is a file or a case
            parts = (error.problem, error.expected and f"expected {error.expected}")
            text = "; ".join(part for part in parts if part)
        else:
            text = str(error)
        line = self.hide(" ".join(f"{type(error).__name__}: {text}".split()))
        line = without_paths(line)
        return line if len(line) <= _LONGEST_ERROR else f"{line[: _LONGEST_ERROR - 3]}..."
