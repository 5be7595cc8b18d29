"""``segpipe compare``: paired differences of two sets of scores, with intervals."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from segpipe.errors import DataError
from segpipe.evaluate.compare import compare_rows
from segpipe.files import write_text

_SCORES = "scores.json"


def run_compare(
    run_a: str, run_b: str, store: Path, json: Path | None, console: Console
) -> dict[str, Any]:
    """Compare two runs case by case and print the differences (B minus A).

    Parameters
    ----------
    run_a, run_b : str
        A scores.json (of evaluate or ``score --json``), a folder that holds one or several, or
        the id of a run under ``store``.
    store : Path
    json : Path or None
        Where to write everything.
    console : rich.console.Console

    Returns
    -------
    dict
        As :func:`segpipe.evaluate.compare.compare_rows` makes it.

    Raises
    ------
    DataError
        If scores are missing, or the two were counted by different rules.
    """
    a, b = _read(run_a, store), _read(run_b, store)
    for key in ("rule", "connectivity", "min_size_mm3", "tolerance_mm"):
        if a["settings"].get(key) != b["settings"].get(key):
            raise DataError(
                run_b,
                f"counted with another {key}",
                expected=f"{a['settings'].get(key)} as {run_a}",
                received=str(b["settings"].get(key)),
                fix="Score both with the same settings.",
            )
    compared = compare_rows(a["rows"], b["rows"], patients={**a["patients"], **b["patients"]})
    if json is not None:
        document = {"schema": 1, "a": run_a, "b": run_b, "labels": compared}
        write_text(json, json_format.dumps(document, indent=1))
    for label, block in compared.items():
        _print(label, block, console)
    return compared


def _read(name: str, store: Path) -> dict[str, Any]:
    documents = [_document(path) for path in _find(name, store)]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for document in documents:
        for row in document["rows"]:
            if (row["case"], row["label"]) in rows:
                raise DataError(
                    name,
                    f"case {row['case']} is scored twice",
                    expected="one row per case and label",
                    fix=f"Name the {_SCORES} that you mean.",
                )
            rows[row["case"], row["label"]] = row
        for detail in document.get("details") or ():
            key = detail.get("case"), detail.get("label")
            if key in rows and rows[key]["status"] == "scored":
                rows[key] = {**rows[key], **detail}
    patients: dict[str, str] = {}
    for document in documents:
        patients |= document.get("patients") or {}
    return {
        "settings": documents[0]["settings"],
        "rows": list(rows.values()),
        "patients": patients,
    }


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json_format.loads(path.read_text(encoding="utf-8"))
        rows = [(row["case"], row["label"], row["status"]) for row in document["rows"]]
        if not rows or not isinstance(document["settings"], dict):
            raise KeyError("rows")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            path,
            "no scores",
            expected="what segpipe evaluate or segpipe score --json wrote",
            received=repr(error),
            fix="Give a scores.json.",
        ) from error
    return document


def _find(name: str, store: Path) -> list[Path]:
    path = Path(name)
    if path.is_file():
        return [path]
    folders = [path] if path.is_dir() else sorted(Path(store).glob(f"*/**/{name}*/"))
    for folder in folders:
        if (folder / _SCORES).is_file():
            return [folder / _SCORES]
        if (folder / "pooled" / _SCORES).is_file():
            return [folder / "pooled" / _SCORES]
        found = sorted(folder.glob(f"fold-*/validation/{_SCORES}")) or sorted(
            folder.glob(f"*/{_SCORES}")
        )
        if found:
            return found
    raise DataError(
        name,
        "no scores",
        expected=f"a {_SCORES}, a folder that holds one, or a run's id under {store}",
        received="none",
        fix="Run segpipe evaluate, or segpipe score --json.",
    )


def _print(label: str, block: dict[str, Any], console: Console) -> None:
    table = Table("figure", "cases", "A", "B", "B − A", "95 % interval", "better")
    for name, figure in block.items():
        if not isinstance(figure, dict) or figure.get("difference") is None:
            continue
        interval = figure["ci95"]
        table.add_row(
            name,
            str(figure["cases"]),
            f"{figure['mean_a']:.3f}",
            f"{figure['mean_b']:.3f}",
            f"{figure['difference']:+.3f}",
            "–" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}",
            figure["better"] or "",
        )
    console.print(f"{label}: {block['pairs']} paired cases", highlight=False)
    console.print(table)
