"""From the counts of all jobs to the table and the figure of the study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study import jobs
from benchmarks.study.jobs import ARMS, CONTROL, DATASETS, SEEDS, Job

DOCS = Path(__file__).parents[2] / "docs"
DRAWS = 1000
USUAL = 0.95
"""The highest threshold that an evaluation considers."""

GRID = np.linspace(0.05, 1.0, 96)
"""Lesion sensitivities at which the curves are read."""

SHOWN = (0.2, 0.4, 0.6, 0.8)
"""Those at which the tables show them."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Counts of one arm: (seeds, cases, sizes × thresholds)."""

    detected: np.ndarray
    lesions: np.ndarray
    wrong: np.ndarray
    dice: np.ndarray


def load_curves(
    dataset: str, wanted: Sequence[str] = tuple(ARMS), highest: float | None = None
) -> tuple[dict[str, Curves], list[str], list[int]]:
    """Curves of the arms that are whole, their cases, and the seeds that all of them have.

    Thresholds above ``highest`` are left out.

    An arm is whole with a seed once every fold is done; an arm whose first seed is not whole is
    left out. Nothing is returned without the first of the arms, to which the others are compared.
    """
    folds = range(DATASETS[dataset][2])
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for arm in wanted:
        for seed in range(SEEDS):
            mine = [Job(dataset, fold, seed, arm) for fold in folds]
            if all(job.result.exists() for job in mine):
                results = [_cases(json.loads(job.result.read_text()), highest) for job in mine]
                found[arm, seed] = {case: one[case] for one in results for case in one}
    arms = [arm for arm in wanted if (arm, 0) in found]
    seeds = [s for s in range(SEEDS) if arms and all((arm, s) in found for arm in arms)]
    if wanted[0] not in arms:
        return {}, [], []
    cases = sorted(found[wanted[0], 0])
    curves = {arm: _curves([[found[arm, s][c] for c in cases] for s in seeds]) for arm in arms}
    return curves, cases, seeds


def _cases(result: dict[str, Any], highest: float | None) -> dict[str, Any]:
    if highest is None:
        return result["cases"]
    kept = [column for column, t in enumerate(result["thresholds"]) if t <= highest]

    def cut(counts: Any) -> Any:
        return [[row[k] for k in kept] for row in counts] if isinstance(counts, list) else counts

    return {
        case: {name: cut(counts) for name, counts in one.items()}
        for case, one in result["cases"].items()
    }


def _curves(rows: list[list[dict[str, Any]]]) -> Curves:
    def stack(name: str) -> np.ndarray:
        return np.array([[np.ravel(case[name]) for case in seed] for seed in rows], float)

    reference = np.array([[case["reference_voxels"] for case in seed] for seed in rows], float)
    total = stack("predicted_voxels") + reference[..., None]
    dice = 2 * stack("shared_voxels") / np.where(total > 0, total, np.nan)
    detected, missed = stack("detected"), stack("missed")
    return Curves(detected, detected + missed, stack("false_positives"), dice)


def envelope(curves: Curves, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fewest false-positive regions per scan at each sensitivity of the grid, and the Dice there.

    Parameters
    ----------
    curves : Curves
    weights : (cases,) float ndarray
        How often each case was drawn.

    Returns
    -------
    regions, dice : (96,) float ndarray
        Means over seeds; nan where a seed does not reach the sensitivity.
    """
    sensitivity = (weights @ curves.detected) / np.maximum(weights @ curves.lesions, 1)
    rate = (weights @ curves.wrong) / weights.sum()
    known = ~np.isnan(curves.dice)
    dice = (weights @ np.nan_to_num(curves.dice)) / np.maximum(weights @ known, 1e-9)
    regions, overlaps = [], []
    for seed in range(len(sensitivity)):
        reached = sensitivity[seed][None] >= GRID[:, None] - 1e-12
        best = np.where(reached, rate[seed][None], np.inf).argmin(axis=1)
        there = reached.any(axis=1)
        regions.append(np.where(there, rate[seed][best], np.nan))
        overlaps.append(np.where(there, dice[seed][best], np.nan))
    return np.mean(regions, axis=0), np.mean(overlaps, axis=0)


def best_f1(curves: Curves, weights: np.ndarray) -> float:
    """Lesion sensitivity of the control's best pooled F1, mean over seeds."""
    detected, lesions = weights @ curves.detected, weights @ curves.lesions
    f1 = detected / (detected + (weights @ curves.wrong + lesions - detected) / 2)
    rows = np.arange(len(f1))
    at = f1.argmax(axis=1)
    return float((detected / np.maximum(lesions, 1))[rows, at].mean())


def compare(curves: dict[str, Curves], arm: str, weights: np.ndarray) -> dict[str, float]:
    """An arm against the control, at the control's best-F1 sensitivity and over its range."""
    control, control_dice = envelope(curves[CONTROL], weights)
    mine, dice = envelope(curves[arm], weights)
    best = best_f1(curves[CONTROL], weights) + 1e-9  # steps of the grid are rounded
    at = int(np.searchsorted(GRID, best, side="right")) - 1
    at = max(0, at)  # a control whose best F1 lies below the grid
    both = ~np.isnan(control) & ~np.isnan(mine)
    return {
        "sensitivity": float(GRID[at]),
        "false_positive_regions": float(mine[at]),
        "ratio": float(mine[at] / control[at]) if control[at] > 0 else float("nan"),
        "dice_difference": float(dice[at] - control_dice[at]),
        "range_ratio": float(mine[both].sum() / control[both].sum()),
        "reach": float(GRID[~np.isnan(mine)].max()),
    }


def analyse(dataset: str, highest: float | None = None) -> dict[str, Any]:
    """Every arm against the control, with bootstrap intervals over patients.

    Thresholds above ``highest`` are left out.
    """
    curves, cases, seeds = load_curves(dataset, highest=highest)
    if not curves:
        return {}
    rng = np.random.default_rng([0, len(cases)])
    draws = rng.multinomial(len(cases), np.full(len(cases), 1 / len(cases)), size=DRAWS)
    arms = {}
    for arm in curves:
        figures: dict[str, Any] = dict(compare(curves, arm, np.ones(len(cases))))
        drawn = [compare(curves, arm, weights.astype(float)) for weights in draws]
        for name in ("ratio", "dice_difference", "range_ratio"):
            values = np.array([one[name] for one in drawn])
            figures[f"{name}_ci95"] = [float(q) for q in np.nanpercentile(values, [2.5, 97.5])]
        regions, _ = envelope(curves[arm], np.ones(len(cases)))
        read = [float(regions[np.abs(GRID - sensitivity).argmin()]) for sensitivity in SHOWN]
        figures["at_sensitivities"] = [None if np.isnan(one) else one for one in read]
        arms[arm] = figures
    what = {"dataset": dataset, "cases": len(cases), "seeds": seeds, "highest_threshold": highest}
    return {**what, "arms": arms}


def report() -> None:
    """Print the tables; write the figures as JSON, and the picture."""
    for dataset in DATASETS:
        for highest, name in ((None, ""), (USUAL, f"-to-{USUAL:g}")):
            found = analyse(dataset, highest)
            if not found:
                print(f"{dataset}: no seed is complete yet")
                break
            (jobs.RESULTS / f"{dataset}{name}.json").write_text(json.dumps(found, indent=1))
            swept = "all thresholds" if highest is None else f"thresholds up to {highest:g}"
            held_out = f"{found['cases']} held-out cases, seeds {found['seeds']}"
            print(f"\n{dataset}: {held_out}, {swept}\n")
            print("\n".join(table(found)))
        else:
            _picture(dataset)


def table(found: dict[str, Any]) -> list[str]:
    """The arms as a table of Markdown."""
    rows = [
        "| arm | FP regions per scan | ratio to plain (95 %) | over the range (95 %) "
        f"| Dice difference (95 %) | reach | at {', '.join(f'{s:g}' for s in SHOWN)} |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, figures in found["arms"].items():
        cells = [
            arm,
            f"{figures['false_positive_regions']:.1f}",
            _with_interval(figures, "ratio", ".2f"),
            _with_interval(figures, "range_ratio", ".2f"),
            _with_interval(figures, "dice_difference", "+.3f"),
            f"{figures['reach']:.2f}",
            ", ".join("–" if n is None else f"{n:.1f}" for n in figures["at_sensitivities"]),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _with_interval(figures: dict[str, Any], name: str, form: str) -> str:
    low, high = figures[f"{name}_ci95"]
    return f"{figures[name]:{form}} ({low:{form}} to {high:{form}})"


def _picture(dataset: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves, cases, seeds = load_curves(dataset)
    figure, axes = pyplot.subplots(figsize=(8.4, 4.2), layout="constrained")
    styles = ("-", "-", "-", "--", "--", ":", (0, (5, 1, 1, 1, 1, 1)), "-.")
    colours = ("#000000", "#d55e00", "#009e73", "#009e73", "#0072b2", "#cc79a7", "#e69f00")
    looks = dict(zip(ARMS, zip(styles, (*colours, "#56b4e9"), strict=True), strict=True))
    for arm, own in curves.items():
        style, colour = looks[arm]
        regions, _ = envelope(own, np.ones(len(cases)))
        axes.plot(regions, GRID, linestyle=style, color=colour, label=arm, linewidth=1.8)
    axes.set(
        xlabel="false-positive regions per scan (log)",
        ylabel="lesion sensitivity",
        xscale="symlog",
        xlim=(0, None),
        ylim=(0, 1),
        title=f"{dataset}: {len(cases)} held-out cases, seeds {', '.join(map(str, seeds))}",
    )
    axes.grid(alpha=0.3)
    figure.legend(frameon=False, loc="outside center right")
    figure.savefig(DOCS / "img" / f"study-{dataset}.png", dpi=110)
    pyplot.close(figure)
