"""Threshold and minimum size, chosen from the table of components without new inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.evaluate.score import defined
from segpipe.evaluate.table import views
from segpipe.lesions.matching import parse_rule
from segpipe.metrics.detection import DetectionCounts, lesion_f1, lesion_sensitivity

CHANCE_SIZES_MM3 = (0.0, 30.0, 100.0, 300.0, np.inf)
CHANCE_PROBABILITIES = (0.0, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Choice:
    """An operating point, and why.

    Parameters
    ----------
    operating_point : OperatingPoint
    figures : dict
        ``threshold``, ``min_size_mm3``, ``lesion_sensitivity`` and ``lesion_f1`` (means over
        cases with lesions), ``false_positive_regions`` (mean over all cases) at this point; None
        where undefined or not in the table.
    reason : str
        In a sentence.
    """

    operating_point: OperatingPoint
    figures: dict[str, Any]
    reason: str


def operating_curve(
    table: pd.DataFrame,
    config: EvaluateConfig,
    cases: Sequence[str],
    min_sizes_mm3: Sequence[float] | None = None,
) -> pd.DataFrame:
    """What every threshold and minimum size would have given on these cases.

    Parameters
    ----------
    table : DataFrame
        Of :func:`segpipe.evaluate.table.component_table`, for all cases.
    config : EvaluateConfig
        Rule, smallest lesion that counts, minimum sizes tried.
    cases : sequence of str
        All cases, those without any component included.
    min_sizes_mm3 : sequence of float, optional
        Instead of ``config.min_sizes_mm3``.

    Returns
    -------
    DataFrame
        ``threshold``, ``min_size_mm3``, ``lesion_sensitivity``, ``lesion_f1`` (means over cases
        with a counted lesion; nan without any), ``false_positive_regions`` (mean over all cases).
        With several labels, a mean runs over cases and labels, and false-positive regions of a
        case are added up. A FROC curve is a view of it.
    """
    rule = parse_rule(config.rule)
    sizes = config.min_sizes_mm3 if min_sizes_mm3 is None else min_sizes_mm3
    tallies: dict[tuple[float, float], list[DetectionCounts]] = {
        (float(threshold), float(size)): []
        for threshold in np.unique(table["threshold"])
        for size in sizes
    }
    wanted = table[table["case"].isin(list(cases))]
    for view in views(wanted):
        for size in sizes:
            found = view.match(rule, config.min_size_mm3, size)
            tallies[view.threshold, float(size)].append(
                DetectionCounts(
                    len(found.detected),
                    len(found.missed),
                    len(found.true_positives),
                    len(found.false_positives),
                )
            )
    rows = [(*point, *_means(counts, len(cases))) for point, counts in tallies.items()]
    columns = ["threshold", "min_size_mm3", "lesion_sensitivity", "lesion_f1"]
    return pd.DataFrame(rows, columns=[*columns, "false_positive_regions"])


def _means(counts: list[DetectionCounts], cases: int) -> tuple[float, float, float]:
    with_lesions = [c for c in counts if c.detected + c.missed]
    false_positives = sum(c.false_positives for c in counts)
    if not with_lesions:
        return np.nan, np.nan, false_positives / cases
    return (
        float(np.mean([lesion_sensitivity(c) for c in with_lesions])),
        float(np.mean([lesion_f1(c) for c in with_lesions])),
        false_positives / cases,
    )


def choose(
    table: pd.DataFrame,
    config: EvaluateConfig,
    cases: Sequence[str],
    configured: OperatingPoint,
) -> Choice:
    """Choose the operating point as ``config.choose`` says.

    Parameters
    ----------
    table : DataFrame
        Components of the validation cases.
    config : EvaluateConfig
        f1: highest mean lesion F1. sensitivity: fewest false-positive regions among the points
        whose mean lesion sensitivity reaches the floor, or, where none does, among those with the
        highest sensitivity. fixed: ``configured``. Ties go to fewer false-positive regions, then
        higher sensitivity, then the threshold nearest to 0.5, then the smaller minimum size.
    cases : sequence of str
        All validation cases.
    configured : OperatingPoint
        Kept under ``fixed``, and where no case has a lesion to choose by.

    Returns
    -------
    Choice
    """
    if config.choose == "fixed":
        return _kept(table, config, cases, configured, "fixed by configuration")
    curve = operating_curve(table, config, cases) if len(cases) else pd.DataFrame()
    if not len(curve) or curve["lesion_f1"].isna().all():
        return _kept(table, config, cases, configured, "no validation case has a lesion")
    if config.choose == "f1":
        eligible = curve[curve["lesion_f1"] >= curve["lesion_f1"].max() - 1e-12]
        reason = f"highest mean lesion F1 on {len(cases)} validation cases"
    else:
        floor = config.sensitivity_floor
        eligible = curve[curve["lesion_sensitivity"] >= floor - 1e-12]
        reason = f"fewest false-positive regions at lesion sensitivity of at least {floor:g}"
        if not len(eligible):
            best = curve["lesion_sensitivity"].max()
            eligible = curve[curve["lesion_sensitivity"] >= best - 1e-12]
            reason = f"highest lesion sensitivity; the floor of {floor:g} is not reached"
    order = np.lexsort(
        (
            eligible["min_size_mm3"],
            (eligible["threshold"] - 0.5).abs().round(6),
            -eligible["lesion_sensitivity"],
            eligible["false_positive_regions"],
        )
    )
    figures = _plain(eligible.iloc[order[0]])
    point = OperatingPoint(threshold=figures["threshold"], min_size_mm3=figures["min_size_mm3"])
    return Choice(point, figures, reason)


def _kept(table, config, cases, configured, reason) -> Choice:
    figures: dict[str, Any] = {
        "threshold": configured.threshold,
        "min_size_mm3": configured.min_size_mm3,
        "lesion_sensitivity": None,
        "lesion_f1": None,
        "false_positive_regions": None,
    }
    there = at_threshold(table, configured.threshold)
    if len(there) and len(cases):
        curve = operating_curve(there, config, cases, [configured.min_size_mm3])
        figures = _plain(curve.iloc[0])
    return Choice(configured, figures, reason)


def at_threshold(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The rows of the table at one threshold; none if the table does not have it."""
    return table[np.isclose(table["threshold"], threshold, rtol=0, atol=1e-9)]


def _plain(row: pd.Series) -> dict[str, Any]:
    return {str(name): defined(float(value)) for name, value in row.items()}


def false_positive_chance(
    table: pd.DataFrame,
    operating_point: OperatingPoint,
    config: EvaluateConfig,
    *,
    sizes_mm3: Sequence[float] = CHANCE_SIZES_MM3,
    probabilities: Sequence[float] = CHANCE_PROBABILITIES,
) -> list[dict[str, Any]]:
    """How often a component of a given size and mean probability was a false positive.

    Parameters
    ----------
    table : DataFrame
        Components of validation cases; must hold the threshold of the operating point.
    operating_point : OperatingPoint
    config : EvaluateConfig
        Rule and smallest lesion that counts.
    sizes_mm3, probabilities : sequence of float
        Limits of the bins, ``low ≤ value < high``; the highest probability is included.

    Returns
    -------
    list of dict
        ``low_mm3``, ``high_mm3`` (None: no limit), ``low_probability``, ``high_probability``,
        ``components``, ``false_positives``, ``chance`` (None in an empty bin). Components that
        found only lesions below the size limit are left out.
    """
    rule = parse_rule(config.rule)
    shape = (len(sizes_mm3) - 1, len(probabilities) - 1)
    wrong, right = np.zeros(shape, int), np.zeros(shape, int)
    for view in views(at_threshold(table, operating_point.threshold)):
        found = view.match(rule, config.min_size_mm3, operating_point.min_size_mm3)
        for chosen, tally in ((found.false_positives, wrong), (found.true_positives, right)):
            rows = view.prediction.iloc[chosen - 1]
            row = np.searchsorted(sizes_mm3, rows["size_mm3"], side="right") - 1
            column = np.searchsorted(probabilities, rows["mean_probability"], side="right") - 1
            np.add.at(tally, (row, np.minimum(column, shape[1] - 1)), 1)
    return [
        {
            "low_mm3": float(sizes_mm3[i]),
            "high_mm3": defined_limit(sizes_mm3[i + 1]),
            "low_probability": float(probabilities[j]),
            "high_probability": float(probabilities[j + 1]),
            "components": int(wrong[i, j] + right[i, j]),
            "false_positives": int(wrong[i, j]),
            "chance": float(wrong[i, j] / total) if (total := wrong[i, j] + right[i, j]) else None,
        }
        for i, j in np.ndindex(shape)
    ]


def defined_limit(value: float) -> float | None:
    """The limit of a bin, None where there is none."""
    return float(value) if np.isfinite(value) else None
