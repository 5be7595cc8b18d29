"""The cohort report: who was evaluated, how good, where the false positives are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from segpipe.report import figures
from segpipe.report.figures import Chart
from segpipe.report.page import render
from segpipe.report.slices import Picture
from segpipe.report.wording import number, region_name, size_range

EXTREMES = 3

FIGURES = {  # of the score document: title, decimals
    "false_positive_regions": ("False-positive regions per scan", 2),
    "false_positive_volume_ml": ("False-positive volume (ml)", 2),
    "missed_lesions": ("Missed lesions per scan", 2),
    "lesion_sensitivity": ("Lesion sensitivity", 3),
    "lesion_precision": ("Lesion precision", 3),
    "lesion_f1": ("Lesion F1", 3),
    "dice": ("Dice", 3),
    "surface_dice": ("Surface Dice", 3),
    "hd95_mm": ("HD95 (mm)", 1),
    "volume_error_ml": ("Volume error (ml)", 2),
}


@dataclass(frozen=True)
class CasePicture:
    """A case worth looking at.

    Parameters
    ----------
    case, label : str
    standing : str
        ``worst`` or ``best``.
    picture : Picture or None
        With found, false-positive and missed regions outlined; None when the scan could not be
        read.
    """

    case: str
    label: str
    standing: str
    picture: Picture | None


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
    excluded : sequence of (case, reason)
    document : mapping
        Of :func:`segpipe.evaluate.score.score_document`: settings, rows, summary, details.
    curve : DataFrame or None
        Of :func:`segpipe.evaluate.operating_point.operating_curve`.
    threshold, min_size_mm3 : float
        The operating point.
    chosen_by : str
        Why that point, in a sentence.
    certificate : mapping or None
        What was, or could be, certified; ``adopted`` says which.
    pictures : sequence of CasePicture
    dataset, model, provenance : sequence of (str, str)
        Facts to print.
    limits : sequence of str
        Known failure modes and what was not tested.
    """

    name: str
    reported: str
    found: int
    excluded: Sequence[tuple[str, str]]
    document: Mapping[str, Any]
    curve: pd.DataFrame | None
    threshold: float
    min_size_mm3: float
    chosen_by: str = ""
    certificate: Mapping[str, Any] | None = None
    pictures: Sequence[CasePicture] = ()
    dataset: Sequence[tuple[str, str]] = ()
    model: Sequence[tuple[str, str]] = ()
    provenance: Sequence[tuple[str, str]] = ()
    limits: Sequence[str] = ()


@dataclass(frozen=True)
class LabelView:
    """One label's part of the report, ready to print."""

    name: str
    cases: int
    failed: int
    table: list[tuple[str, str, str, str, str, int]]
    lesion_free: tuple[int, str, str]
    by_size: list[tuple[str, str, str, str]]
    by_region: list[tuple[str, str, str, str]]
    charts: list[tuple[str, str, Chart | None]]


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
            failed.setdefault(row["case"], row["error"])
    evaluated = {row["case"] for row in rows if row["status"] == "scored"}
    points, chosen = _curve(inputs)
    return render(
        "cohort.html.j2",
        {
            "report": inputs,
            "title": f"Cohort report, {inputs.name}",
            "failed": sorted(failed.items()),
            "evaluated": len(evaluated),
            "labels": [
                _label_view(name, block, rows) for name, block in inputs.document["summary"].items()
            ],
            "froc": figures.froc(points, chosen) if points else None,
            "scores": {(row["case"], row["label"]): row for row in rows},
            "rule": inputs.document["settings"]["rule"],
            "connectivity": inputs.document["settings"]["connectivity"],
        },
    )


def _curve(
    inputs: CohortInputs,
) -> tuple[list[tuple[float, float, float]], tuple[float, float, float] | None]:
    """Points of the curve at the chosen minimum size, and the operating point among them."""
    if inputs.curve is None:
        return [], None
    near = (inputs.curve["min_size_mm3"] - inputs.min_size_mm3).abs() < 1e-9
    columns = ["threshold", "false_positive_regions", "lesion_sensitivity"]
    points = [
        (float(t), float(f), float(s)) for t, f, s in inputs.curve.loc[near, columns].to_numpy()
    ]
    return points, next((p for p in points if abs(p[0] - inputs.threshold) < 1e-9), None)


def _label_view(name: str, block: Mapping[str, Any], rows) -> LabelView:
    cases, bins = block["cases"], block.get("by_size") or []
    regions = block.get("regions") or {}
    regions = {region_name(n): facts for n, facts in regions.items()}
    wrong = {region: facts["false_positive_regions"] for region, facts in regions.items()}
    pairs = [
        (row["reference_volume_ml"], row["prediction_volume_ml"])
        for row in rows
        if row["label"] == name and row["status"] == "scored"
    ]
    sizes = [size_range(b["low_mm3"], b["high_mm3"]) for b in bins]
    rates = [b["false_positive_regions"] / cases if cases else None for b in bins]
    free = block["lesion_free"]
    charts = [
        (
            "Lesion sensitivity by size",
            "Dots: share of lesions found. Lines: 95 % Wilson intervals over lesions.",
            figures.sensitivity_by_size(bins),
        ),
        (
            "False-positive regions by size",
            "Mean per scan.",
            figures.false_positives(sizes, rates, [None] * len(bins)),
        ),
        (
            "False-positive regions by anatomical region",
            "Mean per scan; lines: 95 % bootstrap intervals over patients.",
            figures.false_positives(
                list(wrong),
                [w["mean"] for w in wrong.values()],
                [w["ci95"] for w in wrong.values()],
            ),
        ),
        (
            "Agreement of volumes (Bland–Altman)",
            "Each dot is a scan. Solid: bias; dashed: 95 % limits of agreement.",
            figures.bland_altman(pairs),
        ),
    ]
    return LabelView(
        name=name,
        cases=cases,
        failed=block["failed"],
        table=[
            _spread(title, block[key], digits)
            for key, (title, digits) in FIGURES.items()
            if key in block
        ],
        lesion_free=(
            free["cases"],
            number(free["false_positive_regions"]["mean"]),
            number(free["false_positive_volume_ml"]["mean"]),
        ),
        by_size=[
            (
                size,
                f"{b['detected']} of {b['lesions']}",
                figures.share(b["detected"], b["lesions"]),
                number(rate),
            )
            for size, b, rate in zip(sizes, bins, rates, strict=True)
        ],
        by_region=[
            (
                region,
                number(facts["false_positive_regions"]["mean"]),
                _limits(facts["false_positive_regions"]["ci95"], 2),
                number(facts["missed_lesions"]["mean"]),
            )
            for region, facts in regions.items()
        ],
        charts=charts,
    )


def _spread(
    title: str, spread: Mapping[str, Any], digits: int
) -> tuple[str, str, str, str, str, int]:
    return (
        title,
        number(spread["median"], digits),
        _limits(spread["iqr"], digits),
        number(spread["mean"], digits),
        _limits(spread["ci95"], digits),
        spread["defined"],
    )


def _limits(bounds: Sequence[float] | None, digits: int) -> str:
    if bounds is None:
        return "not computed"
    return f"{number(bounds[0], digits)} to {number(bounds[1], digits)}"
