"""One label's part of the cohort report: table, curves, bins, groups, charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segpipe.report import figures
from segpipe.report.figures import Chart
from segpipe.report.wording import (
    interval,
    interval_and_n,
    limits,
    number,
    region_name,
    sensitivity_interval_in_words,
    size_range,
)

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

GROUPED = ("false_positive_regions", "lesion_sensitivity", "lesion_f1", "dice")
"""Figures that are shown for every group."""


@dataclass(frozen=True)
class LabelView:
    """One label's part of the report, ready to print."""

    name: str
    cases: int
    failed: int
    table: list[tuple[str, str, str, str, str, int]]
    lesion_free: tuple[int, str, str]
    by_size: list[tuple[str, str, str, str]]
    by_size_interval: str
    by_region: list[tuple[str, str, str, str]]
    cpm: tuple[str, str] | None
    groups: list[tuple[str, str, int, list[tuple[str, str]]]]
    charts: list[tuple[str, str, Chart | None]]


def cpm_at(document: Mapping[str, Any], label: str, min_size_mm3: float) -> tuple[str, str] | None:
    """CPM at the chosen minimum size and its interval, where the document has a curve."""
    curve = (document.get("froc") or {}).get(label)
    for row in curve["cpm"] if curve else ():
        if abs(row["min_size_mm3"] - min_size_mm3) < 1e-9:
            return number(row["value"], 3), limits(row["ci95"], 3) or "not computed"
    return None


def _groups(block: Mapping[str, Any]) -> list[tuple[str, str, int, list[tuple[str, str]]]]:
    return [
        (
            column,
            value,
            found["cases"],
            [
                (
                    number(found.get(name, {}).get("mean"), FIGURES[name][1]),
                    interval_and_n(found.get(name, {}), FIGURES[name][1]),
                )
                for name in GROUPED
            ],
        )
        for column, values in block.get("groups", {}).items()
        for value, found in values.items()
    ]


def label_view(name: str, block: Mapping[str, Any], rows, cpm: tuple[str, str] | None) -> LabelView:
    """One label, ready to print.

    Parameters
    ----------
    name : str
    block : mapping
        The label's part of the summary.
    rows : sequence of mapping
        All rows of the document.
    cpm : (str, str) or None
        Of :func:`cpm_at`.
    """
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
    free, which = block["lesion_free"], sensitivity_interval_in_words(bins)
    charts = [
        (
            "Lesion sensitivity by size",
            f"Dots: share of lesions found. Lines: 95 % intervals, {which}.",
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
                figures.share(b),
                number(rate),
            )
            for size, b, rate in zip(sizes, bins, rates, strict=True)
        ],
        by_size_interval=which,
        by_region=[
            (
                region,
                number(facts["false_positive_regions"]["mean"]),
                interval(facts["false_positive_regions"]["ci95"]) or "not computed",
                number(facts["missed_lesions"]["mean"]),
            )
            for region, facts in regions.items()
        ],
        cpm=cpm,
        groups=_groups(block),
        charts=charts,
    )


def _spread(
    title: str, spread: Mapping[str, Any], digits: int
) -> tuple[str, str, str, str, str, int]:
    return (
        title,
        number(spread["median"], digits),
        limits(spread["iqr"], digits) or "not computed",
        number(spread["mean"], digits),
        interval(spread["ci95"], digits) or "not computed",
        spread["defined"],
    )
