"""``segpipe compare``: paired differences of two runs with intervals, as table, JSON and page."""

from __future__ import annotations

import json as json_format
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segpipe.errors import DataError
from segpipe.evaluate.compare import compare_rows
from segpipe.evaluate.paired import (
    false_positive_groups,
    found_lesions,
    lesion_groups,
    pair_lesions,
)
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.summary import SCHEMA
from segpipe.files import write_text
from segpipe.pipeline.apart import expect_apart
from segpipe.pipeline.scored_runs import (
    ScoredRun,
    expect_counted_alike,
    expect_in_common,
    read_scored_run,
)
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
        As :func:`compare_runs` makes it.

    Raises
    ------
    DataError
        If scores are missing, the runs have no case and label in common, or as
        :func:`compare_runs` does.
    ConfigError
        If one file is to be written over the other, or over what is read.
    """
    a, b = read_scored_run(run_a, store), read_scored_run(run_b, store)
    expect_apart({"--json": json, "--html": html}, [*a.files, *b.files])
    expect_in_common(b, a.rows, a.name)
    compared = compare_runs(a, b)
    if json is not None:
        write_text(json, json_format.dumps(compared, indent=1))
    if html is not None:
        inputs = ComparisonInputs(
            reported=f"{datetime.now():%Y-%m-%d}",
            document=compared,
            rows_a=a.all_rows(),
            rows_b=b.all_rows(),
        )
        write_text(html, comparison_report(inputs))
    for label, block in compared["labels"].items():
        _print(label, block, console)
    return compared


def compare_runs(a: ScoredRun, b: ScoredRun) -> dict[str, Any]:
    """Everything that is known of the difference of two runs; ready for JSON.

    Returns
    -------
    dict
        ``a``, ``b`` (names and where they were scored), ``labels`` (of
        :func:`segpipe.evaluate.compare.compare_rows`), and per label ``lesions`` (of
        :func:`segpipe.evaluate.paired.lesion_groups`, with ``differing``: the lesions that only
        one run found; None without tables of components) and ``false_positives``.

    Raises
    ------
    DataError
        If the two were counted by different rules, or against different references, or a table of
        components belongs to other scores.
    """
    expect_counted_alike(a, b)
    _expect_same_references(a, b)
    patients = _patients(a, b)
    labels = compare_rows(a.all_rows(), b.all_rows(), patients=patients)
    lesions = _lesions(a, b)
    return {
        "schema": 1,
        "a": a.name,
        "b": b.name,
        "points": {run: _points(one) for run, one in (("a", a), ("b", b))},
        "labels": labels,
        "lesions": {label: _label_lesions(lesions, label, patients) for label in labels},
        "false_positives": {
            label: false_positive_groups(a.scored_details(label), b.scored_details(label), patients)
            for label in labels
        },
    }


def _patients(a: ScoredRun, b: ScoredRun) -> dict[str, str]:
    """Case to patient; a run that knows no better has the case for its patient."""
    known = {case: who for run in (b, a) for case, who in run.patients.items() if who != case}
    return {**a.patients, **b.patients, **known}


def _expect_same_references(a: ScoredRun, b: ScoredRun) -> None:
    """Refuse cases whose lesions are others in the other run: no mask would be to blame."""
    for key, row in a.rows.items():
        other = b.rows.get(key)
        if other is None or not row["status"] == other["status"] == "scored":
            continue
        lesions, volumes = (
            (row[name], other[name]) for name in ("reference_lesions", "reference_volume_ml")
        )
        if lesions[0] != lesions[1] or not math.isclose(*volumes, rel_tol=1e-6, abs_tol=1e-9):
            told = [f"{n} lesions, {ml:.3f} ml" for n, ml in zip(lesions, volumes, strict=True)]
            raise DataError(
                b.name,
                f"another reference of case {key[0]}, label {key[1]}",
                expected=f"{told[0]}, as in {a.name}",
                received=told[1],
                fix="Score both runs against the same references.",
            )


def _points(run: ScoredRun) -> list[dict[str, Any]]:
    """The different points of a run."""
    return [vars(point) for point in dict.fromkeys(run.points.values())]


def _lesions(a: ScoredRun, b: ScoredRun) -> pd.DataFrame | None:
    if a.table.empty or b.table.empty:
        return None
    found = [found_lesions(run.table, _settings(run), run.points) for run in (a, b)]
    if any(one.empty for one in found):
        return None
    for run, one in zip((a, b), found, strict=True):
        _expect_own_table(run, one)
    return pair_lesions(found[0], found[1], b.name)


def _expect_own_table(run: ScoredRun, found: pd.DataFrame) -> None:
    """Refuse a table whose lesions are not those that the rows count."""
    counts = found.groupby(["case", "label"])["found"].agg(["size", "sum"])
    told = {key: (int(size), int(hits)) for key, size, hits in counts.itertuples()}
    for key, row in run.rows.items():
        if row["status"] != "scored":
            continue
        expected = row["reference_lesions"], row["detected_lesions"]
        received = told.get(key, (0, 0))
        if received != expected:
            raise DataError(
                run.name,
                "the table of components beside these scores belongs to others",
                expected=f"{expected[1]} of {expected[0]} lesions of case {key[0]}, label "
                f"{key[1]}, found, as the scores say",
                received=f"{received[1]} of {received[0]} in components.parquet",
                fix="Keep the scores and the table of one call in a folder of their own, or take "
                "the table away to compare without it.",
            )


def _settings(run: ScoredRun) -> ScoreSettings:
    try:
        return ScoreSettings.model_validate(run.settings)
    except ValidationError as error:
        raise DataError(
            run.name,
            "unknown settings of scoring",
            expected=f"those of schema {SCHEMA}",
            received=f"{error.errors()[0]['msg']} at {error.errors()[0]['loc']}",
            fix="Score again with this version.",
        ) from error


def _label_lesions(
    lesions: pd.DataFrame | None, label: str, patients: Mapping[str, str]
) -> dict[str, Any] | None:
    if lesions is None or not (lesions["label"] == label).any():
        return None
    mine = lesions[lesions["label"] == label]
    differing = mine[mine["outcome"].isin(["only_a", "only_b"])]
    rows = differing.sort_values("size_mm3", ascending=False).drop(columns="label")
    return {
        **lesion_groups(mine, patients),
        "differing": json_format.loads(rows.to_json(orient="records")),
    }


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
            escape(name),
            str(figure["cases"]),
            f"{figure['mean_a']:.3f}",
            f"{figure['mean_b']:.3f}",
            f"{figure['difference']:+.3f}",
            "–" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}",
            f"{figure['p']:.3f}",
            figure["better"] or "",
        )
    left_out = block["unpaired"] and (
        f"; left out: {block['unpaired']} ({block['failed_a']} failed in A, {block['failed_b']} in "
        "B, the others are in one alone)"
    )
    pairs = f"{escape(label)}: {block['pairs']} paired cases"
    console.print(pairs + (left_out or ""), highlight=False)
    console.print(table)
    for why, names in undecided.items():
        console.print(f"no verdict on {', '.join(names)}: {why}", highlight=False)
