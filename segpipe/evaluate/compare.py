"""Two runs on the same cases: paired differences with intervals, and which run is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.evaluate.bootstrap import mean_interval
from segpipe.evaluate.permutation import FEWEST_PATIENTS, LEVEL, sign_flip_p
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
DIRECTED = HIGHER_IS_BETTER | LOWER_IS_BETTER
_FINDING = ("lesion_sensitivity", "missed_lesions", "detected_lesions", "sensitivity")
_BEING_RIGHT = (
    "false_positive_regions",
    "false_positive_volume_ml",
    "lesion_precision",
    "precision",
)
"""Two sides of one threshold: who marks more finds more and is wrong more often."""


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
        Draws of the bootstrap over patients, and its seed (that of drawn sign flips too).
    patients : mapping of str to str, optional
        Case id to patient; without it every case is a patient.

    Returns
    -------
    dict
        Per label: ``pairs`` (cases scored in both), ``unpaired`` (cases that only one run has, or
        that failed in either), ``failed_a``, ``failed_b`` (cases that failed in that run),
        ``patients`` (of the pairs), and per figure ``cases`` (defined in both), ``only_a``,
        ``only_b`` (cases in which one run alone has it defined, the other one's failures among
        them: who fails on hard cases must not look better for it), ``mean_a``,
        ``mean_b``, ``difference`` (mean of b - a), ``median_difference``, ``ci95`` (of the mean
        difference), ``p`` (:func:`~segpipe.evaluate.permutation.sign_flip_p`), ``better`` and
        ``no_verdict``. ``better`` is "a" or "b" where the figure has a direction and is defined in
        the same cases of both runs, the interval excludes 0 and p is at most 0.05; else None, and
        ``no_verdict`` says why where the figure has a direction. Nor is a run better for fewer
        false positives where the interval of a figure of finding lesions favours the other, or
        the reverse: that is a trade, as another threshold makes it.
    """
    result = {}
    for label in dict.fromkeys(row["label"] for row in (*rows_a, *rows_b)):
        first, second = _scored(rows_a, label), _scored(rows_b, label)
        both = [case for case in first if case in second]
        known = {row["case"] for row in (*rows_a, *rows_b) if row["label"] == label}
        failed_a, failed_b = _failed(rows_a, label), _failed(rows_b, label)
        block: dict[str, Any] = {"pairs": len(both), "unpaired": len(known) - len(both)}
        block |= {"failed_a": len(failed_a), "failed_b": len(failed_b)}
        block["patients"] = len({(patients or {}).get(case, case) for case in both})
        if both:
            rows = [one[case] for one in (first, second) for case in both]
            for name in rows[0]:
                if name in NOT_SUMMARISED or any(name not in row for row in rows):
                    continue
                pairs = {case: (first[case][name], second[case][name]) for case in both}
                pairs |= {c: (first[c].get(name), None) for c in first if c in failed_b}
                pairs |= {c: (None, second[c].get(name)) for c in second if c in failed_a}
                block[name] = _difference(name, pairs, patients or {}, bootstrap, seed)
            _no_gain_by_trade(block)
        result[label] = block
    return result


def _no_gain_by_trade(block: dict[str, Any]) -> None:
    """Take back a verdict on one side of the threshold where the other side speaks against it."""
    sides = (_FINDING, "finds more lesions"), (_BEING_RIGHT, "has fewer false positives")
    for (own, _), (others, what) in (sides, sides[::-1]):
        against = {run for name in others if (run := _favoured(name, block.get(name)))}
        for name in own:
            figure = block.get(name)
            if figure is not None and figure["better"] and against - {figure["better"]}:
                (run,) = against - {figure["better"]}
                figure["no_verdict"] = f"a trade, as run {run.upper()} {what}"
                figure["better"] = None


def _favoured(name: str, figure: Mapping[str, Any] | None) -> str | None:
    """The run that the interval of a figure favours, whatever its p and number of patients."""
    if figure is None or not figure["ci95"] or figure["ci95"][0] <= 0 <= figure["ci95"][1]:
        return None
    return "b" if (figure["difference"] > 0) == (name in HIGHER_IS_BETTER) else "a"


def _scored(rows, label) -> dict[str, Mapping[str, Any]]:
    return {r["case"]: r for r in rows if r["label"] == label and r["status"] == "scored"}


def _failed(rows, label) -> set[str]:
    return {r["case"] for r in rows if r["label"] == label and r["status"] != "scored"}


def _difference(
    name: str,
    pairs: Mapping[str, tuple[float | None, float | None]],
    patients: Mapping[str, str],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    defined = {case: p for case, p in pairs.items() if None not in p}
    alone = [
        sum(p[own] is not None and p[other] is None for p in pairs.values())
        for own, other in ((0, 1), (1, 0))
    ]
    block: dict[str, Any] = {"cases": len(defined), "only_a": alone[0], "only_b": alone[1]}
    if not defined:
        empty = ("mean_a", "mean_b", "difference", "median_difference", "ci95", "p", "better")
        told = _alone_in_words(alone) if name in DIRECTED else ""
        return {**block, **dict.fromkeys(empty), "no_verdict": told or None}
    values = np.array(list(defined.values()), float)
    differences = values[:, 1] - values[:, 0]
    owners = [patients.get(case, case) for case in defined]
    interval = mean_interval(differences, owners, bootstrap, seed)
    p = sign_flip_p(differences, owners, seed)
    why = _no_verdict(alone, len(set(owners)), interval, p) if name in DIRECTED else None
    better = None
    if name in DIRECTED and why is None:
        better = "b" if (differences.mean() > 0) == (name in HIGHER_IS_BETTER) else "a"
    return {
        **block,
        "mean_a": float(values[:, 0].mean()),
        "mean_b": float(values[:, 1].mean()),
        "difference": float(differences.mean()),
        "median_difference": float(np.median(differences)),
        "ci95": list(interval) if interval else None,
        "p": p,
        "better": better,
        "no_verdict": why,
    }


def _no_verdict(
    alone: Sequence[int], patients: int, interval: tuple[float, float] | None, p: float
) -> str | None:
    """Why neither run is called better; None: one is."""
    if any(alone):
        return _alone_in_words(alone)
    if patients < FEWEST_PATIENTS:
        return f"fewer than {FEWEST_PATIENTS} patients"
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "no interval" if interval is None else "the interval includes 0"
    return f"p is above {LEVEL:g}" if p > LEVEL else None


def _alone_in_words(alone: Sequence[int]) -> str:
    """Empty where the figure is defined in the same cases of both."""
    told = [
        f"in {run} alone in {n} {'case' if n == 1 else 'cases'}"
        for run, n in zip("AB", alone, strict=True)
        if n
    ]
    return f"defined {', '.join(told)}" if told else ""
