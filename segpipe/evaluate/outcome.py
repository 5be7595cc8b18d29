"""What an operating point makes of a set of cases, and two of them compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.evaluate.compare import compare_rows
from segpipe.evaluate.rows import defined
from segpipe.evaluate.table import at_threshold
from segpipe.evaluate.tallies import Tallies, count_variants
from segpipe.lesions.limits import Limits

FIGURES = ("lesion_f1", "lesion_sensitivity", "false_positive_regions", "dice")
"""What is stated before and after every step."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one operating point makes of the cases; everything (C, L): by case and label."""

    point: OperatingPoint
    cases: tuple[str, ...]
    labels: tuple[str, ...]
    f1: np.ndarray
    dice: np.ndarray
    detected: np.ndarray
    lesions: np.ndarray
    false_positives: np.ndarray

    @property
    def sensitivity(self) -> np.ndarray:
        """(C, L) float: nan without a lesion."""
        return self.detected / np.where(self.lesions > 0, self.lesions, np.nan)

    def rows(self) -> list[dict[str, Any]]:
        """One row per case and label, as scores have them."""
        columns = (self.f1, self.sensitivity, self.false_positives.astype(float), self.dice)
        return [
            {
                "case": case,
                "label": label,
                "status": "scored",
                **{n: defined(float(v[c, k])) for n, v in zip(FIGURES, columns, strict=True)},
            }
            for c, case in enumerate(self.cases)
            for k, label in enumerate(self.labels)
        ]


def outcomes(
    table: pd.DataFrame,
    config: EvaluateConfig,
    points: Sequence[OperatingPoint],
    cases: Sequence[str],
    labels: Sequence[str],
) -> list[Outcome]:
    """What several points of one threshold make of the cases.

    Parameters
    ----------
    table : DataFrame
        Of components; must hold the threshold.
    config : EvaluateConfig
    points : sequence of OperatingPoint
        All with the same threshold.
    cases, labels : sequence of str
        All of them, those without any component included.
    """
    cut = at_threshold(table, points[0].threshold)
    limits = [Limits.of(config, point) for point in points]
    known = np.unique(cut["threshold"]) if len(cut) else [points[0].threshold]
    tallies = count_variants(cut, limits, cases, labels, known)
    return [_outcome(tallies, point, 0, v) for v, point in enumerate(points)]


def tallied(tallies: Tallies, point: OperatingPoint) -> Outcome:
    """The outcome at a threshold and minimum size that were counted."""
    near = np.isclose(tallies.thresholds, point.threshold, rtol=0, atol=1e-9)
    same = np.isclose(tallies.min_sizes_mm3, point.min_size_mm3, rtol=0, atol=1e-9)
    return _outcome(tallies, point, int(np.flatnonzero(near)[0]), int(np.flatnonzero(same)[0]))


def _outcome(tallies: Tallies, point: OperatingPoint, t: int, v: int) -> Outcome:
    return Outcome(
        point=point,
        cases=tallies.cases,
        labels=tallies.labels,
        f1=tallies.f1[:, :, t, v],
        dice=tallies.dice[:, :, t, v],
        detected=tallies.detected[:, :, t, v],
        lesions=tallies.lesions[:, :, t, v],
        false_positives=tallies.false_positives[:, :, t, v],
    )


def compare_outcomes(
    before: Sequence[Outcome],
    after: Sequence[Outcome],
    patients: Mapping[str, str],
    draws: int,
) -> dict[str, dict[str, Any]]:
    """Gain and cost, with paired bootstrap intervals and sign-flip tests over patients.

    Parameters
    ----------
    before, after : sequence of Outcome
        Pairs of the same cases, such as one for each fold.
    patients : mapping of str to str
        Case to patient.
    draws : int

    Returns
    -------
    dict
        Per label: each of :data:`FIGURES` with ``cases`` (defined in both), ``before``, ``after``,
        ``difference`` (means), ``ci95`` and ``p`` of the difference; ``lesions_lost``,
        ``lesions_gained``, ``false_positives_removed``, ``false_positives_added``: net in each
        case, summed over cases.
    """
    rows = [[row for part in side for row in part.rows()] for side in (before, after)]
    compared = compare_rows(*rows, bootstrap=draws, patients=patients)
    result: dict[str, dict[str, Any]] = {}
    for k, label in enumerate(before[0].labels):
        found = _change([p.detected[:, k] for p in before], [p.detected[:, k] for p in after])
        wrong = _change(
            [part.false_positives[:, k] for part in before],
            [part.false_positives[:, k] for part in after],
        )
        figures = {
            name: {
                "cases": block["cases"],
                "before": block["mean_a"],
                "after": block["mean_b"],
                "difference": block["difference"],
                "ci95": block["ci95"],
                "p": block["p"],
            }
            for name in FIGURES
            if (block := compared[label].get(name)) is not None
        }
        result[label] = {
            **figures,
            "lesions_lost": int(-found[found < 0].sum()),
            "lesions_gained": int(found[found > 0].sum()),
            "false_positives_removed": int(-wrong[wrong < 0].sum()),
            "false_positives_added": int(wrong[wrong > 0].sum()),
        }
    return result


def _change(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(after) - np.concatenate(before)
