"""Where a benchmark ran, its table for people, and its JSON."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import Spread, short
from segpipe.backend.processor import cpu_name
from segpipe.files import write_text

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("segpipe", "keras", "tensorflow", "jax", "torch", "openvino", "numpy", "scipy")

Row = Mapping[str, Any]
"""Column to a Spread, number, text, or None where there is nothing to say."""


def machine() -> dict[str, Any]:
    """Processor, cores, versions, date and command."""
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: v for name in _PACKAGES if (v := _version(name)) is not None},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.executable).name, *sys.orig_argv[1:]]),
    }


def table(rows: Sequence[Row]) -> str:
    """Rows under their columns' names; text to the left, figures to the right.

    Examples
    --------
    >>> print(table([{"setting": "a", "s": 1.5}, {"setting": "bcd", "s": None}]))
    setting     s
    -------  ----
    a        1.50
    bcd         –
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    widths = [max(len(c) for c in column) for column in zip(columns, *cells, strict=True)]
    left = [all(isinstance(row.get(name), str) for row in rows) for name in columns]

    def line(texts: Sequence[str]) -> str:
        parts = zip(texts, widths, left, strict=True)
        return "  ".join(t.ljust(w) if is_left else t.rjust(w) for t, w, is_left in parts).rstrip()

    return "\n".join([line(columns), line(["-" * w for w in widths]), *map(line, cells)])


def document(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The JSON of one benchmark."""
    plain = [{column: _plain(value) for column, value in row.items()} for row in rows]
    return {"schema": 1, "benchmark": name, "machine": machine(), "rows": plain}


def write(path: Path, content: Any) -> None:
    """JSON, indented; the folder is made where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def marks(command: str) -> tuple[str, str]:
    """The lines of a page between which a command writes its tables."""
    return f"<!-- tables: make {command} writes them -->", "<!-- end of tables -->"


def fill_tables(page: Path, command: str, tables: str) -> None:
    """Put tables between the marks of a page, instead of those that were there."""
    first, last = marks(command)
    new = re.sub(
        f"{re.escape(first)}.*{re.escape(last)}",
        lambda _: f"{first}\n\n{tables}\n\n{last}",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    write_text(page, new)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return short(value) if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return value.to_json() if isinstance(value, Spread) else value


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
