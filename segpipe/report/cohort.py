"""The cohort report: who was evaluated, how good, where the false positives are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from segpipe.folders import without_folders
from segpipe.report import figures
from segpipe.report.card import NOT_RECORDED, Section
from segpipe.report.cohort_label import FIGURES, GROUPED, cpm_at, label_view
from segpipe.report.comparison import ComparisonInputs, comparison_view
from segpipe.report.gallery import PaintedCase
from segpipe.report.page import render
from segpipe.report.steps import FIGURES as STEP_FIGURES
from segpipe.report.steps import gain_rows, step_rows
from segpipe.report.wording import point_in_words

EXTREMES = 3


@dataclass(frozen=True)
class CasePicture:
    """A case worth looking at.

    Parameters
    ----------
    case, label : str
    standing : str
        ``worst`` or ``best``.
    slices : PaintedCase or None
        With found, false-positive and missed regions outlined; None when the scan could not be
        read.
    painted : str
        Where its painted map is, seen from the report.
    """

    case: str
    label: str
    standing: str
    slices: PaintedCase | None
    painted: str


@dataclass(frozen=True)
class CohortInputs:
    """All that a cohort report tells.

    Parameters
    ----------
    name : str
        Of the experiment.
    reported : str
        Date, as it is to be printed.
    found : int
        Cases of the dataset before exclusion.
    excluded : sequence of (case or number of cases, reason)
    document : mapping
        Of :func:`segpipe.evaluate.summary.score_document`: settings, rows, summary, details.
    curve : DataFrame or None
        Of :func:`segpipe.evaluate.operating_point.operating_curve`.
    point : mapping
        The operating point; where ``folds`` of the document were scored at points of their own,
        that of all together.
    chosen_by : str
        Why that point, in a sentence.
    certificate : mapping or None
        What was, or could be, certified; ``adopted`` says which.
    steps : sequence of mapping
        Of post-processing, with gain and cost of each (:mod:`segpipe.evaluate.steps`).
    gain : mapping or None
        Of all of them together, by label, in cases that had no say in them.
    pictures : sequence of CasePicture
    card : sequence of Section
        Of the dataset and the model.
    baseline : ComparisonInputs or None
        A baseline (A) against what is reported (B).
    """

    name: str
    reported: str
    found: int
    excluded: Sequence[tuple[str | int, str]]
    document: Mapping[str, Any]
    curve: pd.DataFrame | None
    point: Mapping[str, Any]
    chosen_by: str = ""
    certificate: Mapping[str, Any] | None = None
    steps: Sequence[Mapping[str, Any]] = ()
    gain: Mapping[str, Mapping[str, Any]] | None = None
    pictures: Sequence[CasePicture] = ()
    card: Sequence[Section] = ()
    baseline: ComparisonInputs | None = None


def pick_cases(
    rows: Sequence[Mapping[str, Any]], label: str, extremes: int = EXTREMES
) -> list[tuple[str, str]]:
    """Cases to look at: most false-positive regions, and highest lesion F1.

    Parameters
    ----------
    rows : sequence of mapping
        Of a score document.
    label : str
    extremes : int
        How many of each at most; a case is named once, and of few cases not all are worst.

    Returns
    -------
    list of (case, ``worst`` or ``best``)
    """
    scored = [row for row in rows if row["label"] == label and row["status"] == "scored"]
    extremes = min(extremes, -(-len(scored) // 2))
    wrong = [row for row in scored if row["false_positive_regions"] or row["missed_lesions"]]
    worst = sorted(
        wrong,
        key=lambda r: (-r["false_positive_regions"], _or(r["lesion_f1"], 1.0), r["case"]),
    )[:extremes]
    rest = [row for row in scored if row not in worst and row["lesion_f1"] is not None]
    best = sorted(rest, key=lambda r: (-r["lesion_f1"], r["false_positive_regions"], r["case"]))[
        :extremes
    ]
    return [(r["case"], "worst") for r in worst] + [(r["case"], "best") for r in best]


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def cohort_report(inputs: CohortInputs) -> str:
    """The report as one self-contained HTML page.

    Parameters
    ----------
    inputs : CohortInputs

    Returns
    -------
    str
    """
    rows = inputs.document["rows"]
    failed: dict[str, str] = {}
    for row in rows:
        if row["status"] == "failed":
            failed.setdefault(row["case"], without_folders(row["error"]))
    evaluated = {row["case"] for row in rows if row["status"] == "scored"}
    owners = inputs.document.get("patients") or {}
    patients = len({owners.get(case, case) for case in evaluated})
    points, chosen = _curve(inputs)
    size = inputs.point["min_size_mm3"]
    return render(
        "cohort.html.j2",
        {
            "report": inputs,
            "title": f"Cohort report, {inputs.name}",
            "failed": sorted(failed.items()),
            "excluded": sum(who if isinstance(who, int) else 1 for who, _ in inputs.excluded),
            "evaluated": len(evaluated),
            "patients": patients,
            "labels": [
                label_view(name, block, rows, cpm_at(inputs.document, name, size))
                for name, block in inputs.document["summary"].items()
            ],
            "point": point_in_words(inputs.point),
            "fold_points": _fold_points(inputs.document.get("folds") or ()),
            "grouped": [FIGURES[name][0] for name in GROUPED],
            "steps": step_rows(inputs.steps),
            "gain": gain_rows(inputs.gain),
            "step_figures": list(STEP_FIGURES.values()),
            "froc": figures.froc(points, chosen) if points else None,
            **({} if inputs.baseline is None else comparison_view(inputs.baseline)),
            "missing": NOT_RECORDED,
            "scores": {(row["case"], row["label"]): row for row in rows},
            "rule": inputs.document["settings"]["rule"],
            "connectivity": inputs.document["settings"]["connectivity"],
        },
    )


def _fold_points(folds: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """The points that folds were scored at, and how many folds at each."""
    return list(Counter(point_in_words(fold) for fold in folds).items())


def _curve(
    inputs: CohortInputs,
) -> tuple[list[tuple[float, float, float]], tuple[float, float, float] | None]:
    """Points of the curve at the chosen minimum size, and the operating point among them."""
    if inputs.curve is None:
        return [], None
    near = (inputs.curve["min_size_mm3"] - inputs.point["min_size_mm3"]).abs() < 1e-9
    columns = ["threshold", "false_positive_regions", "lesion_sensitivity"]
    points = [
        (float(t), float(f), float(s)) for t, f, s in inputs.curve.loc[near, columns].to_numpy()
    ]
    return points, next((p for p in points if abs(p[0] - inputs.point["threshold"]) < 1e-9), None)
