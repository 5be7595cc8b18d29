"""``segpipe check``: a table of findings with the fix."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from segpipe.config import DataConfig
from segpipe.data.check import check_dataset
from segpipe.data.layouts import open_dataset
from segpipe.files import write_text
from segpipe.observer import Observer


def run_check(config: DataConfig, json: Path | None, console: Console, observer: Observer) -> bool:
    """Check a dataset and print what is wrong, and as notes what is unusual.

    Returns
    -------
    bool
        Whether there are findings.
    """
    dataset = open_dataset(config)
    total = len(dataset.cases) + len(dataset.test_cases)
    observer.message(f"{dataset.name}: {total} cases, {dataset.layout} layout")
    checked = check_dataset(dataset, config, workers=2, observer=observer)
    findings = checked.findings
    if json is not None:
        document = {"dataset": dataset.name, "cases": total, **asdict(checked)}
        write_text(json, json_format.dumps(document, indent=1, ensure_ascii=False))
    for note in checked.notes:
        line = f"note {note.case}: {note.note}"
        console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not findings:
        console.print(f"{total} cases, no findings")
        return False
    table = Table("case", "file", "problem", "expected", "received", "fix", show_lines=True)
    for f in findings:
        name = Path(f.file).name if f.file else ""
        cells = (f.case, name, f.problem, f.expected, f.received, f.fix)
        table.add_row(*(Text(cell) for cell in cells))  # foreign words: no markup in them
    console.print(table)
    console.print(f"{total} cases, {len(findings)} findings")
    return True
