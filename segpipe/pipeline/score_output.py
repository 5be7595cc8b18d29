"""Scores for people: a table on the terminal, and CSV."""

from __future__ import annotations

import csv as csv_format
import io
import json as json_format
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from segpipe.errors import DataError
from segpipe.files import replacing, write_text
from segpipe.report.wording import count

_FORMULA = ("=", "+", "@", "\t", "\r")


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write all figures as JSON."""
    write_text(path, json_format.dumps(document, indent=1, ensure_ascii=False))


def publish(document: Mapping[str, Any], console: Console, *, csv: Path | None) -> bool:
    """Print the table, write the rows if asked for; returns whether a row failed."""
    if csv is not None:
        write_text(csv, score_csv(document))
    console.print(score_table(document))
    return any(row["status"] == "failed" for row in document["rows"])


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table of components as CSV or Parquet, whichever the name says.

    Raises
    ------
    DataError
        As :func:`expect_table_name`.
    """
    expect_table_name(path)
    if path.suffix == ".csv":
        write_text(path, table.map(_inert).to_csv(index=False))
        return
    with replacing(path) as stream:
        table.to_parquet(stream, index=False)


def expect_table_name(path: Path) -> None:
    """Refuse a name of a table that is not known how to write.

    Raises
    ------
    DataError
        If it ends in neither .csv nor .parquet.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(
            path,
            "unknown kind of table",
            expected="a name that ends in .csv or .parquet",
            received=path.name,
            fix="Rename it.",
        )


SHOWN = {
    "dice": "Dice",
    "hd95_mm": "HD95",
    "surface_dice": "NSD",
    "reference_lesions": "lesions",
    "detected_lesions": "found",
    "false_positive_regions": "FP",
    "false_positive_volume_ml": "FP ml",
    "lesion_sensitivity": "sens.",
    "lesion_f1": "F1",
}


def score_table(document: Mapping[str, Any]) -> Group:
    """A row per case and label, means, curves and groups, what was flagged and what failed."""
    failed = [row for row in document["rows"] if row["status"] == "failed"]
    errors = [f"[red]failed[/red] {escape(row['label'])}: {escape(row['error'])}" for row in failed]
    notes = [
        f"[yellow]note[/yellow] {escape(row['case'])}, {escape(row['label'])}: {escape(flag)}"
        for row in document["rows"]
        for flag in row.get("flags", ())
    ]
    curves = [_cpm(document["froc"])] if document.get("froc") else []
    groups = [_groups(document["summary"])] if _grouped(document["summary"]) else []
    means = _means(document["summary"])
    if owners := document.get("patients"):
        notes.insert(
            0, f"{count(len(owners), 'case')} of {count(len(set(owners.values())), 'patient')}"
        )
    return Group(_cases(document["rows"]), means, *curves, *groups, *notes, *errors)


def _cases(rows: Sequence[Mapping[str, Any]]) -> Table:
    several = len({row["label"] for row in rows}) > 1
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("case", overflow="fold")
    for title in (*(["label"] if several else []), *SHOWN.values()):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = ["[red]failed[/red]"]
        if row["status"] == "scored":
            cells = [_text(row[name]) for name in SHOWN]
        names = [escape(row["case"]), *([escape(row["label"])] if several else [])]
        table.add_row(*names, *cells)
    return table


def _means(summary: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(
        *("label", "figure", "mean", "95 % interval", "median", "cases"), box=box.SIMPLE_HEAD
    )
    for label, block in summary.items():
        for name, title in SHOWN.items():
            figure = block.get(name)
            if figure is None or figure["mean"] is None:
                table.add_row(escape(label), title, "–", "–", "–", "0")
                continue
            interval = _interval(figure["ci95"])
            mean, median = f"{figure['mean']:.3f}", f"{figure['median']:.3f}"
            table.add_row(escape(label), title, mean, interval, median, str(figure["defined"]))
        table.add_section()
    return table


def _cpm(curves: Mapping[str, Mapping[str, Any]]) -> Table:
    """Sensitivity at fixed rates of false-positive regions per scan, and their mean."""
    rates = list(next(iter(curves.values()))["cpm"][0]["sensitivity_at"])
    table = Table(
        *("label", "min. mm³", *(f"at {rate}" for rate in rates), "CPM", "95 % interval"),
        box=box.SIMPLE_HEAD,
        title="lesion sensitivity at false-positive regions per scan",
    )
    for label, curve in curves.items():
        for row in curve["cpm"]:
            reached = [_text(row["sensitivity_at"][rate]) for rate in rates]
            interval = _interval(row["ci95"])
            size = f"{row['min_size_mm3']:g}"
            table.add_row(escape(label), size, *reached, _text(row["value"]), interval)
        table.add_section()
    return table


GROUPED = ("dice", "lesion_sensitivity", "lesion_f1", "false_positive_regions")


def _grouped(summary: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(block.get("groups") for block in summary.values())


def _groups(summary: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(
        *("label", "by", "value", "cases", *(SHOWN[name] for name in GROUPED)),
        box=box.SIMPLE_HEAD,
    )
    for label, block in summary.items():
        for column, values in block.get("groups", {}).items():
            for value, figures in values.items():
                means = [_text(figures.get(name, {}).get("mean")) for name in GROUPED]
                names = (escape(text) for text in (label, column, value))
                table.add_row(*names, str(figures["cases"]), *means)
    return table


def _interval(limits: Sequence[float] | None) -> str:
    return "–" if limits is None else f"{limits[0]:.3f} to {limits[1]:.3f}"


def score_csv(document: Mapping[str, Any]) -> str:
    """The rows as CSV: one line per case and label, empty where a value is undefined."""
    names = list(dict.fromkeys(name for row in document["rows"] for name in row))
    text = io.StringIO()
    writer = csv_format.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    for row in document["rows"]:
        cells = {name: "" if value is None else value for name, value in row.items()}
        if "flags" in cells:
            cells["flags"] = "; ".join(row["flags"])
        writer.writerow({name: _inert(value) for name, value in cells.items()})
    return text.getvalue()


def _inert(value: Any) -> Any:
    """Text that a spreadsheet would compute, such as ``=1+1`` from a file's name, made plain."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _text(value: float | int | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
