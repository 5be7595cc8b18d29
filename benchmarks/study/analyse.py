"""From the counts of all jobs to the figures of the study."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.bootstrap import draw, interval
from benchmarks.jobs import differing
from benchmarks.study.jobs import (
    ARMS,
    CONTROL,
    DATASETS,
    SEEDS,
    Job,
    Setting,
    forked_from,
)
from segpipe.config import EvaluateConfig
from segpipe.evaluate.table import THRESHOLDS

Settings = Sequence[Setting]
USUAL = THRESHOLDS[-1]
"""Highest threshold that an evaluation considers; results have higher ones too."""
USUAL_MM3 = max(EvaluateConfig().min_sizes_mm3)
"""Likewise of minimum sizes."""


def _is_usual(setting: Setting) -> bool:
    return _strictest(setting) <= USUAL and setting[0] <= USUAL_MM3


def _strictest(setting: Setting) -> float:
    _, threshold, core = setting
    return threshold if core is None else core


SWEEPS: dict[str, tuple[str, Callable[[Setting], bool]]] = {
    "one threshold": ("one threshold of any height", lambda setting: setting[2] is None),
    "all": ("thresholds of any height, with and without hysteresis", lambda _: True),
    "usual": (f"thresholds up to {USUAL:g}, with and without hysteresis", _is_usual),
}
"""Ways to a mask that are swept, in words, and which settings they have."""

GRID = np.linspace(0.05, 1.0, 96)
"""Lesion sensitivities at which the curves are read."""

SHOWN = (0.2, 0.4, 0.6, 0.8)
"""Those at which the tables show them."""

COMPARED = (
    "ratio",
    "dice_difference",
    "range_ratio",
    "range_mean_ratio",
    "range_dice_difference",
)
"""Figures beside the control's, with intervals."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Counts of one arm: (seeds, cases, settings).

    Parameters
    ----------
    detected, wrong : (S, N, M) float ndarray
        Lesions found, and false-positive regions.
    dice : (S, N, M) float ndarray
        nan in a case without lesions.
    lesions : (N,) float ndarray
    at_edge : (M,) bool ndarray
        Settings at the end of what was swept, beyond which there may be a better one.
    """

    detected: np.ndarray
    wrong: np.ndarray
    dice: np.ndarray
    lesions: np.ndarray
    at_edge: np.ndarray


def load_curves(
    dataset: str, wanted: Sequence[str] = tuple(ARMS), sweep: str = "all"
) -> tuple[dict[str, Curves], list[str], list[int]]:
    """Curves of the arms that are whole, their cases, and the seeds that all of them have.

    A fold is read once all its arms that are done forked from one base. An arm is whole with a
    seed once every fold is done; an arm whose first seed is not whole is left out. Nothing is
    returned without the first of the arms, to which the others are compared.

    Raises
    ------
    ValueError
        If the results of an arm were trained or swept with different settings.
    """
    folds = range(DATASETS[dataset][2])
    found: dict[tuple[str, int], dict[str, Any]] = {}
    settings: Settings = []
    for seed in range(SEEDS):
        bases = [{forked_from(Job(dataset, k, seed, arm)) for arm in wanted} for k in folds]
        if any(len(base - {None}) > 1 for base in bases):
            continue
        for arm in wanted:
            mine = [Job(dataset, fold, seed, arm) for fold in folds]
            if all(job.result.exists() for job in mine):
                results = [json.loads(job.result.read_text()) for job in mine]
                first = Job(dataset, 0, 0, arm).result
                _check_alike([json.loads(first.read_text()), *results], arm)
                settings = results[0]["settings"]
                found[arm, seed] = {c: one["cases"][c] for one in results for c in one["cases"]}
    arms = [arm for arm in wanted if (arm, 0) in found]
    seeds = [s for s in range(SEEDS) if arms and all((arm, s) in found for arm in arms)]
    if wanted[0] not in arms:
        return {}, [], []
    cases = sorted(found[wanted[0], 0])
    _, is_swept = SWEEPS[sweep]
    kept = [column for column, one in enumerate(settings) if is_swept(one)]
    edge = at_edge([settings[column] for column in kept])
    rows = {arm: [[found[arm, s][c] for c in cases] for s in seeds] for arm in arms}
    return {arm: _curves(rows[arm], kept, edge) for arm in arms}, cases, seeds


def _check_alike(results: Sequence[dict[str, Any]], arm: str) -> None:
    """Whether results may be pooled: the same settings swept, and trained with the same ones."""
    for other in results[1:]:
        differ = differing(results[0]["config"], other["config"]) - {"train.seed"}
        if other["settings"] != results[0]["settings"]:
            differ.add("settings")
        if differ:
            raise ValueError(
                f"{arm}, {other['dataset']}, seed {other['seed']}, fold {other['fold']}: expected "
                f"a result of the same settings as that of seed 0, fold 0; received others for "
                f"{', '.join(sorted(differ))}. Delete one of them and run make study."
            )


def at_edge(settings: Settings) -> np.ndarray:
    """(M,) bool: settings with the largest size, or with the highest or the lowest threshold.

    The highest threshold is that of the core, where there is one; the lowest is looked for among
    the settings with a core and among those without.
    """
    sizes = np.array([size for size, _, _ in settings])
    largest = (sizes == sizes.max()) & (sizes > 0)
    strictest = np.array([_strictest(setting) for setting in settings])
    has_core = np.array([core is not None for _, _, core in settings])
    thresholds = np.array([threshold for _, threshold, _ in settings])
    edge = largest | (strictest == strictest.max())
    for kind in (has_core, ~has_core):
        edge |= kind & (thresholds == thresholds.min(where=kind, initial=1.0))
    return edge


def _curves(rows: list[list[dict[str, Any]]], kept: list[int], edge: np.ndarray) -> Curves:
    def stack(name: str) -> np.ndarray:
        return np.array([[case[name] for case in seed] for seed in rows], float)[..., kept]

    reference = np.array([[case["reference_voxels"] for case in seed] for seed in rows], float)
    reference = np.where(reference > 0, reference, np.nan)[..., None]
    dice = 2 * stack("shared_voxels") / (stack("predicted_voxels") + reference)
    lesions = np.array([case["lesions"] for case in rows[0]], float)
    return Curves(stack("detected"), stack("false_positives"), dice, lesions, edge)


@dataclass(frozen=True, eq=False)
class Envelope:
    """The best that an arm can do at each sensitivity of the grid.

    Parameters
    ----------
    regions, dice : (96,) float ndarray
        Means over seeds; nan where a seed does not reach the sensitivity.
    at_edge : (96,) bool ndarray
        Whether a seed's best lies at the end of what was swept.
    """

    regions: np.ndarray
    dice: np.ndarray
    at_edge: np.ndarray


def envelope(curves: Curves, weights: np.ndarray) -> Envelope:
    """Fewest false-positive regions per scan at each sensitivity of the grid, and the Dice there.

    Of settings with as few, the one with the highest Dice.

    Parameters
    ----------
    curves : Curves
    weights : (cases,) float ndarray
        How often each case was drawn.
    """
    sensitivity = (weights @ curves.detected) / np.maximum(weights @ curves.lesions, 1)
    rate = (weights @ curves.wrong) / weights.sum()
    known = weights * (curves.lesions > 0)
    dice = (known @ np.nan_to_num(curves.dice)) / np.maximum(known.sum(), 1e-9)
    regions, overlaps, edges = [], [], []
    for seed in range(len(sensitivity)):
        by_rank = np.lexsort((-dice[seed], rate[seed]))
        rank = np.argsort(by_rank)
        falling = np.argsort(-sensitivity[seed], kind="stable")
        best = by_rank[np.minimum.accumulate(rank[falling])]
        reached = np.searchsorted(-sensitivity[seed][falling], -GRID + 1e-12, side="right")
        at = best[np.maximum(reached, 1) - 1]
        there = reached > 0
        regions.append(np.where(there, rate[seed][at], np.nan))
        overlaps.append(np.where(there, dice[seed][at], np.nan))
        edges.append(there & curves.at_edge[at])
    return Envelope(np.mean(regions, axis=0), np.mean(overlaps, axis=0), np.any(edges, axis=0))


def pooled_f1(curves: Curves, weights: np.ndarray) -> np.ndarray:
    """(seeds, settings): F1 of all lesions; false positives of scans without any do not enter."""
    detected, lesions = weights @ curves.detected, weights @ curves.lesions
    wrong = (weights * (curves.lesions > 0)) @ curves.wrong
    return detected / np.maximum((detected + wrong + lesions) / 2, 1e-9)


def best_f1(curves: Curves, weights: np.ndarray) -> float:
    """Lesion sensitivity of the control's best pooled F1, mean over seeds."""
    at = pooled_f1(curves, weights).argmax(axis=1)
    found = (weights @ curves.detected)[np.arange(len(at)), at]
    return float(found.mean() / max(weights @ curves.lesions, 1))


def compare(curves: dict[str, Curves], weights: np.ndarray) -> dict[str, dict[str, Any]]:
    """Every arm against the control.

    Returns
    -------
    dict of str to dict
        ``sensitivity`` of the control's best F1, and there ``false_positive_regions``, their
        ``ratio`` to the control's and ``dice_difference``: inf and nan where an arm does not reach
        it. ``range_ratio`` of the means over the sensitivities that the arm and the control reach,
        up to ``common``, in which the highest sensitivities weigh most, as they have most regions;
        ``range_mean_ratio``, the geometric mean of the ratios at each of them, in which all weigh
        alike; and ``range_dice_difference`` between those of Dice;
        ``range_edge_share``: at how many of them either's best lies at the end of what was swept.
        ``reach`` of the arm. ``at_sensitivities``: regions and Dice, None where not reached, and
        ``at_edge``: whether one of these readings lies at that end.
    """
    found = {arm: envelope(own, weights) for arm, own in curves.items()}
    control = found[CONTROL]
    best = best_f1(curves[CONTROL], weights) + 1e-9  # steps of the grid are rounded
    at = max(0, int(np.searchsorted(GRID, best, side="right")) - 1)
    shown = [int(np.abs(GRID - sensitivity).argmin()) for sensitivity in SHOWN]
    both = {arm: ~np.isnan(own.regions) & ~np.isnan(control.regions) for arm, own in found.items()}
    return {
        arm: {
            "sensitivity": float(GRID[at]),
            "false_positive_regions": float(own.regions[at]),
            "ratio": _ratio(own.regions[at], control.regions[at]),
            "dice_difference": float(own.dice[at] - control.dice[at]),
            "range_ratio": _ratio(own.regions[both[arm]].sum(), control.regions[both[arm]].sum()),
            "range_mean_ratio": _mean_ratio(own.regions[both[arm]], control.regions[both[arm]]),
            "range_dice_difference": _mean((own.dice - control.dice)[both[arm]]),
            "range_edge_share": _mean((own.at_edge | control.at_edge)[both[arm]].astype(float)),
            "common": float(GRID[both[arm]].max(initial=0)),
            "reach": float(GRID[~np.isnan(own.regions)].max(initial=0)),
            "at_sensitivities": [
                None if np.isnan(own.regions[k]) else (float(own.regions[k]), float(own.dice[k]))
                for k in shown
            ],
            "at_edge": [bool(own.at_edge[k]) for k in (at, *shown)],
        }
        for arm, own in found.items()
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _mean_ratio(mine: np.ndarray, control: np.ndarray) -> float:
    """Geometric mean of ratios; where either has no region at all there is none."""
    there = (mine > 0) & (control > 0)
    return float(np.exp(_mean(np.log(mine[there] / control[there]))))


def _ratio(mine: float, control: float) -> float:
    """inf: the arm does not get there; nan: the control does not, or has nothing to be fewer of."""
    if np.isnan(control) or control == 0:
        return float("nan")
    return float("inf") if np.isnan(mine) else float(mine / control)


def analyse(dataset: str, sweep: str = "all") -> dict[str, Any]:
    """Every arm against the control, with bootstrap intervals over patients.

    An end of an interval is None
    where it is infinite: in so many draws an arm does not reach the sensitivity. Empty until one
    seed is whole.
    """
    curves, cases, seeds = load_curves(dataset, sweep=sweep)
    if not curves:
        return {}
    arms = compare(curves, np.ones(len(cases)))
    drawn = [compare(curves, weights) for weights in draw(len(cases))]
    for arm, figures in arms.items():
        for name in COMPARED:
            figures[f"{name}_ci95"] = interval([one[arm][name] for one in drawn])
        for name in ("false_positive_regions", *COMPARED):
            figures[name] = figures[name] if np.isfinite(figures[name]) else None
    return {"cases": len(cases), "seeds": seeds, "arms": arms}
