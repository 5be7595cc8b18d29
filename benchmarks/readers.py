"""Lung nodules of four readers: seconds and memory per scan, and the false positives of people.

Each bit of a scan's map is scored against the numbered nodules that two readers agree on, and
against those that two of the three other bits agree on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.score import extra_mb
from benchmarks.timing import Spread, fresh, seconds

DATA = Path(__file__).parents[2] / "shared" / "data" / "lidc_labels"
READERS = 4
_MAJORITY, _BITS = "_gt_2of4_instances.nii.gz", "_readers_bitmask.nii.gz"
_OTHERS = ", others"
_COUNTS = ("reference_lesions", "detected_lesions", "false_positive_regions")


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """A row per scan, each in a process of its own, and one for all; none without the data."""
    cases = sorted(p.name.removesuffix(_MAJORITY) for p in DATA.glob(f"*{_MAJORITY}"))
    if not cases:
        print(f"readers: left out, no scans in {DATA}")
    rows = [fresh(measure, case, repeat) for case in (cases[:1] if smoke else cases)]
    return [*rows, pooled(rows)] if rows else []


def measure(case: str, repeat: int) -> dict[str, Any]:
    """Read one scan and score its four bits; the first time is not measured."""
    found: dict[str, Any] = {}
    reading, scoring = [], []

    def score() -> None:
        found.update(counts=score_bits(found["bits"], found["majority"]))

    def work() -> None:
        reading.append(seconds(lambda: found.update(read(case))))
        scoring.append(seconds(score))

    memory = extra_mb(work)
    for _ in range(repeat):
        work()
    return {
        "scan": case,
        "voxels": "×".join(map(str, found["bits"].shape)),
        "s to read": Spread(tuple(reading[1:])),
        "s to score 4": Spread(tuple(scoring[1:])),
        "MB": memory,
        **_named(found["counts"], ""),
        **_named(score_bits(found["bits"]), _OTHERS),
    }


def read(case: str) -> dict[str, Any]:
    """The numbered nodules of the majority, and the bits of the readers."""
    from segpipe.data.nifti import read_labels

    files = {"majority": _MAJORITY, "bits": _BITS}
    return {name: read_labels(DATA / f"{case}{ending}") for name, ending in files.items()}


def score_bits(bits, majority=None) -> dict[str, int]:
    """Counts of the four bits of a map, added up.

    Parameters
    ----------
    bits : Volume, (X, Y, Z) uint8
        Bit k: the k-th annotation.
    majority : Volume, (X, Y, Z) int, optional
        Numbered nodules; without it, what at least two of the three other bits hold.
    """
    from segpipe.evaluate.score import ScoreSettings, score_labels
    from segpipe.volume import Volume

    planes = [(bits.array >> bit & 1).astype(np.uint8) for bit in range(READERS)]
    total = dict.fromkeys(_COUNTS, 0)
    for bit, plane in enumerate(planes):
        reference = majority
        if reference is None:
            others = sum(p for k, p in enumerate(planes) if k != bit)
            reference = Volume((others >= 2).astype(np.uint8), bits.affine)
        settings = ScoreSettings(reference_instances=majority is not None)
        prediction = Volume(plane, bits.affine)
        row = score_labels("scan", reference, prediction, {"nodule": None}, settings)[0].row
        total = {name: total[name] + row[name] for name in _COUNTS}
    return total


def pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of all scans added up; times and memory of the slowest and the largest."""
    counts = {name: sum(row[name] for row in rows) for name in rows[0] if _is_count(name)}
    slowest = {
        name: max(row[name].median for row in rows) for name in ("s to read", "s to score 4")
    }
    memory = [row["MB"] for row in rows if row["MB"] is not None]
    return {"scan": "all", **slowest, "MB": max(memory, default=None), **counts}


def _named(counts: dict[str, int], suffix: str) -> dict[str, int]:
    short = ("nodules", "found", "false positives")
    return {f"{n}{suffix}": counts[c] for n, c in zip(short, _COUNTS, strict=True)}


def _is_count(name: str) -> bool:
    return name.split(",")[0] in ("nodules", "found", "false positives")
