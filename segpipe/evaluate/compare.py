"""Two runs on the same cases: paired differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.evaluate.bootstrap import mean_interval
from segpipe.evaluate.summary import NOT_SUMMARISED

LOWER_IS_BETTER = frozenset(
    {
        "hd95_mm",
        "assd_mm",
        "absolute_volume_error_ml",
        "lesionwise_hd95_mm",
        "lesions_lost",
        "missed_lesions",
        "missed_volume_ml",
        "false_positive_regions",
        "false_positive_volume_ml",
    }
)
HIGHER_IS_BETTER = frozenset(
    {
        "dice",
        "iou",
        "sensitivity",
        "precision",
        "surface_dice",
        "detected_lesions",
        "lesion_sensitivity",
        "lesion_precision",
        "lesion_f1",
        "lesionwise_dice",
        "panoptic_quality",
        "segmentation_quality",
        "recognition_quality",
    }
)


def compare_rows(
    rows_a: Sequence[Mapping[str, Any]],
    rows_b: Sequence[Mapping[str, Any]],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    patients: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Compare two sets of scores case by case.

    Parameters
    ----------
    rows_a, rows_b : sequence of dict
        Rows of two score documents; they may hold the details too.
    bootstrap, seed : int
        Draws of the bootstrap over patients, and its seed.
    patients : mapping of str to str, optional
        Case id to patient; without it every case is a patient.

    Returns
    -------
    dict
        Per label: ``pairs`` (cases scored in both), ``unpaired`` (cases that only one run has, or
        that failed in one), ``patients`` (of the pairs), and per figure ``cases`` (defined in
        both), ``mean_a``, ``mean_b``, ``difference`` (mean of b - a), ``median_difference``,
        ``ci95`` (of the mean difference), ``better``: "a" or "b" where the interval excludes 0 and
        the figure has a direction, else None.
    """
    result = {}
    for label in dict.fromkeys(row["label"] for row in (*rows_a, *rows_b)):
        first, second = _scored(rows_a, label), _scored(rows_b, label)
        both = [case for case in first if case in second]
        known = {row["case"] for row in (*rows_a, *rows_b) if row["label"] == label}
        block: dict[str, Any] = {"pairs": len(both), "unpaired": len(known) - len(both)}
        block["patients"] = len({(patients or {}).get(case, case) for case in both})
        if both:
            common = [n for n in first[both[0]] if n in second[both[0]] and n not in NOT_SUMMARISED]
            for name in common:
                pairs = {case: (first[case][name], second[case][name]) for case in both}
                block[name] = _difference(name, pairs, patients or {}, bootstrap, seed)
        result[label] = block
    return result


def _scored(rows, label) -> dict[str, Mapping[str, Any]]:
    return {r["case"]: r for r in rows if r["label"] == label and r["status"] == "scored"}


def _difference(
    name: str,
    pairs: Mapping[str, tuple[float | None, float | None]],
    patients: Mapping[str, str],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    defined = {case: p for case, p in pairs.items() if p[0] is not None and p[1] is not None}
    if not defined:
        empty = dict.fromkeys(("mean_a", "mean_b", "difference", "median_difference", "ci95"))
        return {"cases": 0, **empty, "better": None}
    values = np.array(list(defined.values()), float)
    differences = values[:, 1] - values[:, 0]
    owners = [patients.get(case, case) for case in defined]
    interval = mean_interval(differences, owners, bootstrap, seed)
    return {
        "cases": len(defined),
        "mean_a": float(values[:, 0].mean()),
        "mean_b": float(values[:, 1].mean()),
        "difference": float(differences.mean()),
        "median_difference": float(np.median(differences)),
        "ci95": list(interval) if interval else None,
        "better": _better(name, interval),
    }


def _better(name: str, interval: tuple[float, float] | None) -> str | None:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return None
    if name in HIGHER_IS_BETTER:
        return "b" if interval[0] > 0 else "a"
    if name in LOWER_IS_BETTER:
        return "a" if interval[0] > 0 else "b"
    return None
