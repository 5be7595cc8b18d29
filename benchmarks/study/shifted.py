"""A prior can be wrong: the regions moved by 10 mm on purpose, and what that costs in lesions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.bootstrap import draw, interval
from benchmarks.study import jobs
from benchmarks.study.analyse import SWEEPS, Curves, load_curves, pooled_f1
from segpipe.prepare import PreparedCase

SHIFT_MM = 10.0
AXIS = 1
"""Towards anterior: a brain is nearly symmetric from right to left."""

TRUE = "all"
ALLOWED = 0.05
"""By how much lesion sensitivity may fall."""


def shift_regions(regions: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Region maps moved by 10 mm, to the nearest voxel; what enters is the value at the edge.

    Parameters
    ----------
    regions : (X, Y, Z, R) ndarray
        Along R, A, S.
    spacing_mm : (3,) float
    """
    steps = round(SHIFT_MM / spacing_mm[AXIS])
    source = np.clip(np.arange(regions.shape[AXIS]) - steps, 0, None)
    return np.take(regions, source, axis=AXIS)


def shift_case(case: PreparedCase) -> PreparedCase:
    """A prepared case whose regions lie 10 mm off, in memory; image and reference stay."""
    moved = shift_regions(np.asarray(case.regions), case.spacing_mm)
    return replace(case, regions=moved)


def compare_shifted(true: Curves, shifted: Curves, weights: np.ndarray, column: int) -> dict:
    """Lesion sensitivity with moved regions minus that with true ones.

    Parameters
    ----------
    true, shifted : Curves
        Of the same seeds and cases.
    weights : (cases,) float ndarray
        How often each case was drawn.
    column : int
        Threshold 0.5 without a minimum size.

    Returns
    -------
    dict of str to float
        Means over seeds. ``at_threshold`` compares the same threshold and minimum size;
        ``at_equal_false_positives`` the most lesions that each finds with no more false-positive
        regions than the true regions give at their best F1. nan where that cannot be reached.
    """
    best = pooled_f1(true, weights).argmax(axis=1)
    limits = (weights @ true.wrong)[np.arange(len(best)), best]
    equal_true, equal_shifted = (_at_most(curves, weights, limits) for curves in (true, shifted))
    same_true, same_shifted = (_sensitivity(c, weights)[:, column] for c in (true, shifted))
    return {
        "at_equal_false_positives": float(np.mean(equal_shifted - equal_true)),
        "at_threshold": float(np.mean(same_shifted - same_true)),
        "sensitivity": float(np.mean(equal_true)),
        "false_positive_regions": float(np.mean(limits) / weights.sum()),
    }


def _sensitivity(curves: Curves, weights: np.ndarray) -> np.ndarray:
    """(seeds, settings); nan if no drawn case has a lesion."""
    lesions = weights @ curves.lesions
    return (weights @ curves.detected) / (lesions if lesions > 0 else np.nan)


def _at_most(curves: Curves, weights: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Highest sensitivity of each seed among settings with no more false-positive regions."""
    allowed = weights @ curves.wrong <= limits[:, None] + 1e-9
    best = np.where(allowed, _sensitivity(curves, weights), -np.inf).max(axis=1)
    return np.where(allowed.any(axis=1), best, np.nan)


def analyse_shifted(dataset: str, sweep: str = "one threshold") -> dict[str, Any]:
    """The figures with bootstrap intervals over patients; empty until one seed is whole."""
    curves, cases, seeds = load_curves(dataset, (TRUE, jobs.SHIFTED), sweep)
    if len(curves) < 2 or not seeds:
        return {}
    swept = json.loads(jobs.Job(dataset, 0, seeds[0], TRUE).result.read_text())["settings"]
    _, is_swept = SWEEPS[sweep]
    column = [one for one in swept if is_swept(one)].index([0.0, 0.5, None])
    pair = curves[TRUE], curves[jobs.SHIFTED]
    figures: dict[str, Any] = compare_shifted(*pair, np.ones(len(cases)), column)
    drawn = [compare_shifted(*pair, weights, column) for weights in draw(len(cases))]
    for name in ("at_equal_false_positives", "at_threshold"):
        figures[f"{name}_ci95"] = interval([one[name] for one in drawn])
    return {"dataset": dataset, "cases": len(cases), "seeds": seeds, **figures}


def is_within(found: dict[str, Any]) -> bool:
    """Whether lesion sensitivity falls by no more than is allowed; never where it is nan."""
    return found["at_equal_false_positives"] >= -ALLOWED
