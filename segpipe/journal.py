"""A JSON document of cases that takes changes case by case, at a cost that grows as the cases do.

Written whole after every case, the document would cost as much for a case as for all before it.
So a change is a line in a hidden file beside it (``.predict.jsonl`` of ``predict.json``), and the
document is written whole once the lines are as long as it is: all bytes written are at most a few
times those of the last document. Whoever reads joins both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segpipe.files import encoded, write_bytes


class Journal:
    """The document as one process writes it.

    Parameters
    ----------
    path : Path
        Of the document.
    head : mapping
        All of it but ``cases``; ``created`` tells it from those of other processes.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self.path = path
        self.head = head
        self._whole = self._lines = 0  # bytes

    def write(self, cases: Mapping[str, Any]) -> None:
        """Write the document whole, cases in the order of their names."""
        document = {**self.head, "cases": [cases[case] for case in sorted(cases)]}
        content = encoded(json.dumps(document, indent=1, ensure_ascii=False))
        write_bytes(self.path, content)
        _lines_of(self.path).unlink(missing_ok=True)
        self._whole, self._lines = len(content), 0

    def change(self, cases: Mapping[str, Any], *changed: str) -> None:
        """Keep the cases that were added, replaced or taken out, so that no kill loses them."""
        if self._lines >= self._whole:  # the first change too: the document is another process's
            self.write(cases)
            return
        entries = {case: cases.get(case) for case in changed}
        line = encoded(json.dumps([self.head["created"], entries], ensure_ascii=False)) + b"\n"
        with _lines_of(self.path).open("ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self._lines += len(line)


def read_journal(path: Path) -> Any:
    """The document with all changes, as JSON.

    Changes that belong to another document, and the last one if a kill cut it, are left out.

    Raises
    ------
    OSError
        If the document cannot be read.
    ValueError
        If it is no JSON, or holds no cases that could be changed.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    try:
        lines = _lines_of(path).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return document
    try:
        cases = {entry["case"]: entry for entry in document["cases"]}
        for created, changes in map(json.loads, lines):
            if created == document["created"]:
                cases.update(changes)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no list of cases: {error!r}") from error
    left = [cases[case] for case in sorted(cases) if cases[case] is not None]
    return {**document, "cases": left}


def _lines_of(path: Path) -> Path:
    return path.with_name(f".{path.stem}.jsonl")
