"""From the results of all jobs to the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.accuracy.jobs import COMPARISONS, RESULTS, UNTOLD, Job
from benchmarks.accuracy.judge import pooled
from benchmarks.bootstrap import draw, interval
from benchmarks.jobs import differing
from benchmarks.report import table

Result = Mapping[str, Any]


def load_results(dataset: str, folder: Path = RESULTS) -> list[dict[str, dict[int, Result]]]:
    """Arm to fold to result, once for each set of folds that an arm has done, the most folds first.

    An arm is in every one whose folds it has all done: one that has done few does not keep the
    others from being compared on all of theirs. What compares nothing, as one arm alone has those
    folds, is left out, unless it is everything.

    Raises
    ------
    ValueError
        If the folds of one side were trained with different settings, as when a default changed.
    """
    comparison = COMPARISONS[dataset]
    found: dict[str, dict[int, Result]] = {}
    for arm in comparison.arms:
        paths = {fold: Job(dataset, fold, arm).result(folder) for fold in comparison.folds}
        done = {fold: json.loads(path.read_text()) for fold, path in paths.items() if path.exists()}
        if done:
            _check_alike(arm, done)
            found[arm] = done
    sets = sorted({tuple(done) for done in found.values()}, key=lambda folds: (-len(folds), folds))
    compared = [
        {
            arm: {fold: done[fold] for fold in folds}
            for arm, done in found.items()
            if done.keys() >= set(folds)
        }
        for folds in sets
    ]
    return [arms for arms in compared if len(arms) > 1] or compared


def _check_alike(arm: str, done: Mapping[int, Result]) -> None:
    told = {fold: one["training"].get("config", UNTOLD) for fold, one in done.items()}
    first = next(iter(told))
    for fold, own in told.items():
        differ = differing(told[first], own)
        if differ:
            raise ValueError(
                f"{arm}, fold {fold}: expected a result of the same settings as that of fold "
                f"{first}; received others for {', '.join(sorted(differ))}. Delete one of them "
                "and run make bench-accuracy."
            )


def summary_row(arm: str, name: str, results: Sequence[Result]) -> dict[str, Any]:
    """One way of predicting of an arm: what it took, and means over cases and labels.

    The lesion sensitivity is pooled: detected over all lesions of all cases. False-positive regions
    are those of all labels, per scan. Others' share is what other programs took of the processor
    time that was spent meanwhile.
    """
    rows = [row for result in results for row in result["predictions"][name]["rows"]]
    lesions = sum(row["reference_lesions"] for row in rows)
    detected = sum(row["detected_lesions"] for row in rows)
    training = [result["training"] for result in results]
    predicting = [result["predictions"][name]["cost"] for result in results]
    return {
        "arm": arm,
        "prediction": name,
        "iterations": round(fmean(one["iterations"] for one in training)),
        "s": round(fmean(one["seconds"] for one in training)),
        "processor s": round(fmean(one["processor_seconds"] for one in training)),
        "others' share": _share_of_others(training),
        "prediction s": fmean(one["seconds"] for one in predicting),
        "others' share then": _share_of_others(predicting),
        "Dice": _mean(row["dice"] for row in rows),
        "surface Dice": _mean(row["surface_dice"] for row in rows),
        "lesion F1": _mean(row["lesion_f1"] for row in rows),
        "sensitivity": detected / lesions if lesions else None,
        "FP regions": _per_scan(rows),
    }


def label_rows(arm: str, name: str, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Dice and surface Dice by label."""
    rows = [row for result in results for row in result["predictions"][name]["rows"]]
    return [
        {
            "arm": arm,
            "prediction": name,
            "label": label,
            "Dice": _mean(row["dice"] for row in rows if row["label"] == label),
            "surface Dice": _mean(row["surface_dice"] for row in rows if row["label"] == label),
        }
        for label in dict.fromkeys(row["label"] for row in rows)
    ]


def fewest(points: Sequence[Mapping[str, Any]], sensitivity: float) -> float | None:
    """Fewest false-positive regions per scan at a sensitivity or above; None if not reached."""
    reached = [
        point["false_positive_regions"]
        for point in points
        if point["sensitivity"] is not None and point["sensitivity"] >= sensitivity - 1e-12
    ]
    return min(reached, default=None)


def sensitivity_row(
    arm: str, name: str, peer: Sequence[Result], ours: Sequence[Result]
) -> dict[str, Any]:
    """False-positive regions per scan of both at the lesion sensitivity of nnU-Net's masks.

    ``theirs``: nnU-Net's masks as they are; ``theirs, swept`` and ``ours``: the fewest over
    thresholds and minimum sizes. Ratios are ours to each, None where undefined, with the middle
    95 % of a bootstrap over the folds, each of which leaves one patient out; one fold has none.
    ``left out``: regions and sensitivity where each fold's setting was chosen on the other folds:
    the best of many settings on the very patients that it is told of is flattered.
    """
    row = {"against": arm, "prediction": name, **_at_their_sensitivity(name, peer, ours)}
    if len(peer) < 2:
        return row
    drawn = [_at_their_sensitivity(name, peer, ours, often) for often in draw(len(peer))]
    for ratio in ("ratio", "ratio, swept"):
        ends = interval([_or_infinite(one, ratio) for one in drawn])
        low, high = ("∞" if end is None else f"{end:.2f}" for end in ends)
        row[f"{ratio} (95 %)"] = f"{low} to {high}"
    (own,) = ours[0]["predictions"]
    required = [
        _at_their_sensitivity(name, peer, ours, others)["sensitivity"]
        for others in 1 - np.eye(len(peer))
    ]
    for side, key, told in ((ours, own, "ours"), (peer, name, "theirs")):
        found = chosen_on_the_others(side, key, required)
        row[f"{told}, left out"] = None if found is None else f"{found[1]:.1f} at {found[0]:.3f}"
    return row


def chosen_on_the_others(
    side: Sequence[Result], name: str, required: Sequence[float | None]
) -> tuple[float, float] | None:
    """Pooled lesion sensitivity, and regions per scan, of settings chosen without the fold itself.

    Parameters
    ----------
    side : sequence of result
        A fold each.
    name : str
        The way of predicting.
    required : sequence of float or None
        For each fold, the sensitivity that its setting must reach on the others with the fewest
        regions, and of equals the highest sensitivity; None where they have no lesion.

    Returns
    -------
    (float, float) or None
        None where a sensitivity is not reached.
    """
    sweeps = [one["predictions"][name]["sweep"] for one in side]
    detected = lesions = regions = 0.0
    for fold, least in enumerate(required):
        others = pooled(sweeps, [float(k != fold) for k in range(len(sweeps))])
        reached = [
            (point["false_positive_regions"], -point["sensitivity"], at)
            for at, point in enumerate(others)
            if least is not None
            and point["sensitivity"] is not None
            and point["sensitivity"] >= least - 1e-12
        ]
        if not reached:
            return None
        rows = side[fold]["predictions"][name]["rows"]
        there = sum(row["reference_lesions"] for row in rows)
        own = pooled([sweeps[fold]])[min(reached)[2]]
        detected += there * (own["sensitivity"] or 0.0)
        lesions += there
        regions += own["false_positive_regions"]
    return detected / lesions, regions / len(sweeps)


def _at_their_sensitivity(
    name: str,
    peer: Sequence[Result],
    ours: Sequence[Result],
    often: Sequence[float] | np.ndarray | None = None,
) -> dict[str, Any]:
    """Counts and ratios, each fold drawn so often; None where a sensitivity is not reached."""
    often = np.ones(len(peer)) if often is None else often
    (own,) = ours[0]["predictions"]
    listed = [one["predictions"][name]["rows"] for one in peer]

    def total(of) -> float:
        return sum(n * of(rows) for n, rows in zip(often, listed, strict=True))

    def lesions(figure: str) -> float:
        return total(lambda rows: sum(row[figure] for row in rows))

    required = lesions("reference_lesions")
    sensitivity = lesions("detected_lesions") / required if required else None
    theirs = lesions("false_positive_regions") / total(_scans)
    curves = [
        pooled([one["predictions"][key]["sweep"] for one in side], often)
        for side, key in ((peer, name), (ours, own))
    ]
    swept, mine = (
        None if sensitivity is None else fewest(points, sensitivity) for points in curves
    )
    return {
        "sensitivity": sensitivity,
        "theirs": theirs,
        "theirs, swept": swept,
        "ours": mine,
        "ratio": _ratio(mine, theirs),
        "ratio, swept": _ratio(mine, swept),
    }


def _or_infinite(row: Mapping[str, Any], ratio: str) -> float:
    """A ratio; inf where ours does not get to the sensitivity, nan where there is none."""
    if row["sensitivity"] is not None and row["ours"] is None:
        return float("inf")
    return float("nan") if row[ratio] is None else row[ratio]


def report(datasets: Sequence[str], folder: Path = RESULTS) -> None:
    """Print the tables of what is done."""
    for dataset in datasets:
        compared = load_results(dataset, folder)
        if not compared:
            print(f"{dataset}: no fold is done yet")
        for arms in compared:
            _report(dataset, arms)


def _report(dataset: str, arms: Mapping[str, Mapping[int, Result]]) -> None:
    """Print the tables of some arms on the same folds."""
    folds = next(iter(arms.values()))
    listed = [(arm, list(done.values())) for arm, done in arms.items()]
    ways = [(arm, name, done) for arm, done in listed for name in done[0]["predictions"]]
    print(f"\n{dataset}, folds {', '.join(map(str, folds))}\n")
    print(table([summary_row(*way) for way in ways]))
    if not COMPARISONS[dataset].sweep:
        print()
        print(table([row for way in ways for row in label_rows(*way)]))
        return
    peers = [way for way in ways if Job(dataset, 0, way[0]).peer]
    for arm, done in listed if peers else ():
        if not Job(dataset, 0, arm).peer:
            print(f"\n{arm} at the lesion sensitivity of nnU-Net's masks\n")
            print(table([sensitivity_row(*way, done) for way in peers]))


def _scans(rows: Sequence[Mapping[str, Any]]) -> int:
    return len({row["case"] for row in rows})


def _per_scan(rows: Sequence[Mapping[str, Any]]) -> float:
    return sum(row["false_positive_regions"] for row in rows) / _scans(rows)


def _share_of_others(costs: Sequence[Mapping[str, float]]) -> float:
    own, others = (
        sum(cost[name] for cost in costs)
        for name in ("processor_seconds", "processor_seconds_of_others")
    )
    return others / (own + others)


def _mean(values) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None
