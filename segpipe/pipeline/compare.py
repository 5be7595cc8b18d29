"""``segpipe compare``: paired differences of two runs with intervals, as table, JSON and page."""

from __future__ import annotations

import json as json_format
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from segpipe.files import write_text
from segpipe.pipeline.scored_runs import compare_runs, read_scored_run
from segpipe.report.comparison import ComparisonInputs, comparison_report


def run_compare(
    run_a: str,
    run_b: str,
    store: Path,
    console: Console,
    *,
    json: Path | None = None,
    html: Path | None = None,
) -> dict[str, Any]:
    """Compare two runs case by case and print the differences (B minus A).

    Parameters
    ----------
    run_a, run_b : str
        A scores.json (of evaluate or ``score --json``), a folder that holds one or several, or
        the id of a run under ``store``.
    store : Path
    console : rich.console.Console
    json, html : Path or None
        Where to write everything, and the page.

    Returns
    -------
    dict
        As :func:`segpipe.pipeline.scored_runs.compare_runs` makes it.

    Raises
    ------
    DataError
        If scores are missing, or the two were counted by different rules.
    """
    a, b = read_scored_run(run_a, store), read_scored_run(run_b, store)
    compared = compare_runs(a, b)
    if json is not None:
        write_text(json, json_format.dumps(compared, indent=1))
    if html is not None:
        inputs = ComparisonInputs(
            reported=f"{datetime.now(UTC):%Y-%m-%d}",
            document=compared,
            rows_a=a.all_rows(),
            rows_b=b.all_rows(),
        )
        write_text(html, comparison_report(inputs))
    for label, block in compared["labels"].items():
        _print(label, block, console)
    return compared


def _print(label: str, block: dict[str, Any], console: Console) -> None:
    table = Table("figure", "cases", "A", "B", "B − A", "95 % interval", "p", "better")
    undecided: dict[str, list[str]] = {}
    for name, figure in block.items():
        if not isinstance(figure, dict):
            continue
        if figure["no_verdict"] is not None:
            undecided.setdefault(figure["no_verdict"], []).append(name)
        if figure["difference"] is None:
            continue
        interval = figure["ci95"]
        table.add_row(
            name,
            str(figure["cases"]),
            f"{figure['mean_a']:.3f}",
            f"{figure['mean_b']:.3f}",
            f"{figure['difference']:+.3f}",
            "–" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}",
            f"{figure['p']:.3f}",
            figure["better"] or "",
        )
    console.print(f"{label}: {block['pairs']} paired cases", highlight=False)
    console.print(table)
    for why, names in undecided.items():
        console.print(f"no verdict on {', '.join(names)}: {why}", highlight=False)
