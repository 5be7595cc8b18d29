"""How often a component of a given size and mean probability is a false positive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.evaluate.bootstrap import ratio_interval
from segpipe.evaluate.table import at_threshold, read_views
from segpipe.lesions.components import size_bins
from segpipe.lesions.limits import Limits

CHANCE_SIZES_MM3 = (0.0, 30.0, 100.0, 300.0, np.inf)
CHANCE_PROBABILITIES = (0.0, 0.6, 0.7, 0.8, 0.9, 1.0)


def false_positive_chance(
    table: pd.DataFrame,
    operating_point: OperatingPoint,
    config: EvaluateConfig,
    patients: Mapping[str, str] | None = None,
    *,
    bootstrap: int = 0,
    seed: int = 0,
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
    patients : mapping, optional
        Case to patient; a case that is not in it is a patient of its own.
    bootstrap, seed : int
        Draws of patients for the interval, and their seed; 0 draws: no interval.
    sizes_mm3, probabilities : sequence of float
        Limits of the bins, ``low ≤ value < high``; the highest probability is included.

    Returns
    -------
    list of dict
        ``low_mm3``, ``high_mm3`` (None: no limit), ``low_probability``, ``high_probability``,
        ``components`` and the ``patients`` that have them, ``false_positives``, ``chance`` (None
        in an empty bin), ``chance_ci95`` over patients (None where it is undefined). Components
        that found only lesions below the size limit are left out.
    """
    limits = Limits.of(config, operating_point)
    shape = (len(sizes_mm3) - 1, len(probabilities) - 1)
    views = list(read_views(at_threshold(table, operating_point.threshold)))
    wrong_of, right_of = np.zeros((2, len(views), *shape), int)
    for number, view in enumerate(views):
        found = view.count(limits).matching
        wrongly, rightly = wrong_of[number], right_of[number]
        for chosen, tally in ((found.false_positives, wrongly), (found.true_positives, rightly)):
            size, mean = view.component_mm3[chosen - 1], view.prediction.mean_probability
            row = size_bins(size, sizes_mm3)
            column = np.searchsorted(probabilities, mean[chosen - 1], side="right") - 1
            np.add.at(tally, (row, np.minimum(column, shape[1] - 1)), 1)
    all_of = wrong_of + right_of
    wrong, components = wrong_of.sum(axis=0), all_of.sum(axis=0)
    owners = [(patients or {}).get(view.case, view.case) for view in views]

    def interval(i: int, j: int) -> list[float] | None:
        drawn = ratio_interval(wrong_of[:, i, j], all_of[:, i, j], owners, bootstrap, seed)
        return list(drawn) if drawn else None

    return [
        {
            "low_mm3": float(sizes_mm3[i]),
            "high_mm3": defined_limit(sizes_mm3[i + 1]),
            "low_probability": float(probabilities[j]),
            "high_probability": float(probabilities[j + 1]),
            "components": int(components[i, j]),
            "patients": len({owners[k] for k in np.flatnonzero(all_of[:, i, j])}),
            "false_positives": int(wrong[i, j]),
            "chance": float(wrong[i, j] / total) if (total := components[i, j]) else None,
            "chance_ci95": interval(i, j),
        }
        for i, j in np.ndindex(shape)
    ]


def defined_limit(value: float) -> float | None:
    """The limit of a bin, None where there is none."""
    return float(value) if np.isfinite(value) else None
