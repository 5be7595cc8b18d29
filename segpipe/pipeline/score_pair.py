"""One prediction against its reference: read, compared, counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.data.nifti import (
    MAX_VOXELS,
    read_flagged_labels,
    read_probability,
    read_region,
)
from segpipe.data.read import on_grid
from segpipe.errors import DataError
from segpipe.evaluate.score import score_labels, tabulate
from segpipe.evaluate.settings import LabelValues, ScoreSettings
from segpipe.evaluate.table import THRESHOLDS
from segpipe.lesions.view import View
from segpipe.pipeline.score_files import Pair
from segpipe.volume import Volume


@dataclass(frozen=True)
class Job:
    """What is the same for every pair.

    Parameters
    ----------
    settings : ScoreSettings
    labels : mapping
        Name to values; the order of probability maps.
    only : tuple of str
        The labels that are scored.
    closed : bool
        Whether values beside those of the labels are errors.
    regions : mapping or None
        Case to region to file; None: no regions wanted.
    soft : bool
        Whether predictions of 0 and 1 alone are probabilities: a map in which nothing was found
        cannot be told from a mask, but for the maps beside it.
    max_voxels : int
        Files that claim more are refused before allocation.
    """

    settings: ScoreSettings
    labels: Mapping[str, LabelValues]
    only: tuple[str, ...]
    closed: bool
    regions: Mapping[str, Mapping[str, Path]] | None
    soft: bool = False
    max_voxels: int = MAX_VOXELS


@dataclass(frozen=True, eq=False)
class PairScore:
    """What one pair yields.

    Parameters
    ----------
    rows : list of (dict, dict)
        A row and its details for every label.
    views : list of View
        Components: of a mask once, of probabilities at every threshold.
    soft : bool
        Whether the prediction was scored as probabilities.
    unclear : bool
        Whether it was scored as labels and holds nothing that a probability map could not.
    """

    rows: list[tuple[dict[str, Any], dict[str, Any]]]
    views: list[View]
    soft: bool
    unclear: bool


def score_pair(job: Job, pair: Pair) -> PairScore:
    """Read and score one pair."""
    if pair.problem is not None:
        raise pair.problem
    assert pair.reference is not None
    assert pair.prediction is not None
    reference, odd = read_flagged_labels(pair.reference, max_voxels=job.max_voxels)
    prediction, flags = read_prediction(
        pair.prediction, strict=job.settings.strict, max_voxels=job.max_voxels
    )
    prediction, turned = on_grid(prediction, reference, pair.prediction)
    unclear = prediction.array.dtype.kind != "f" and _could_be_probability(prediction.array, job)
    if unclear and job.soft:
        prediction = prediction.with_array(prediction.array.astype(np.float32))
    soft = prediction.array.dtype.kind == "f"
    if job.closed:
        _check_values(pair, reference, prediction, job)
    regions, noticed = _read_regions(job, pair.case, reference)
    views: list[View] = []
    if soft:
        views = tabulate(
            pair.case,
            reference,
            prediction,
            job.labels,
            job.settings,
            sorted({*THRESHOLDS, job.settings.threshold}),
            regions=regions,
            only=job.only,
        )
    scores = score_labels(
        pair.case,
        reference,
        prediction,
        job.labels,
        job.settings,
        regions=regions,
        only=job.only,
        flags=[*(f"reference: {flag}" for flag in odd), *flags, *turned, *noticed],
        views={view.label: view for view in views if view.threshold == job.settings.threshold},
    )
    rows = [(score.row, score.detail) for score in scores]
    return PairScore(rows, views or [score.view for score in scores], soft, unclear and not soft)


def _could_be_probability(array: np.ndarray, job: Job) -> bool:
    """Whether 0 and 1 alone mean the same as labels and as probabilities of the only label."""
    if len(job.only) != 1 or array.min() < 0 or array.max() > 1:
        return False
    values = job.labels[job.only[0]]
    means_one = values is None or values == 1 or values == (1,)
    return means_one or not array.any()


def read_prediction(
    path: Path, *, strict: bool, max_voxels: int = MAX_VOXELS
) -> tuple[Volume, tuple[str, ...]]:
    """Read labels or, where values are not whole numbers, probabilities.

    Raises
    ------
    DataError
        If it is neither; with ``strict`` also if a probability is NaN.
    """
    try:
        return read_flagged_labels(path, max_voxels=max_voxels)
    except DataError:
        return read_probability(path, strict=strict, max_voxels=max_voxels)


def label_values(array: np.ndarray) -> set[int]:
    """The values that occur in an array of whole numbers."""
    if array.dtype.kind == "u":
        return set(np.flatnonzero(np.bincount(array.ravel())).tolist())
    return set(np.unique(array).tolist())


def _check_values(pair: Pair, reference: Volume, prediction: Volume, job: Job) -> None:
    known: set[int | None] = {0, job.settings.ignore_label}
    for values in job.labels.values():
        known |= set(values) if isinstance(values, tuple) else {values}
    sides: list[tuple[Path | None, Volume]] = []
    if not job.settings.reference_instances:
        sides.append((pair.reference, reference))
    if prediction.array.dtype.kind != "f":
        sides.append((pair.prediction, prediction))
    for path, volume in sides:
        unknown = sorted(label_values(volume.array) - known)
        if unknown:
            raise DataError(
                path or pair.case,
                "label values that the dataset does not declare",
                expected=f"values among {sorted(v for v in known if v is not None)}",
                received=", ".join(str(value) for value in unknown[:10]),
                fix="Correct the file or the labels in dataset.json, or choose one with --label.",
            )


def _read_regions(
    job: Job, case: str, reference: Volume
) -> tuple[dict[str, np.ndarray] | None, list[str]]:
    if job.regions is None:
        return None, []
    files = job.regions.get(case, {})
    if not files:
        return None, ["no region maps for this case"]
    maps: dict[str, np.ndarray] = {}
    noticed: list[str] = []
    for name, path in files.items():
        region, flags = read_region(path, max_voxels=job.max_voxels)
        region, turned = on_grid(region, reference, path)
        maps[name] = region.array
        noticed += [f"region {name}: {flag}" for flag in (*flags, *turned)]
    return maps, noticed
