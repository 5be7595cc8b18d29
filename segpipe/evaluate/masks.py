"""From label maps and probabilities to the masks that are scored."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from segpipe.errors import DataError
from segpipe.evaluate.settings import LabelValues, ScoreSettings
from segpipe.lesions.classes import class_map
from segpipe.volume import Volume


def reference_mask(array: np.ndarray, values: LabelValues, settings: ScoreSettings) -> np.ndarray:
    """Where the reference has a label; with numbered lesions, their numbers."""
    ignored = settings.ignore_label
    if settings.reference_instances:
        return array if ignored is None else np.where(array == ignored, 0, array)
    mask = mask_of(array, values)
    return mask if ignored is None else mask & (array != ignored)


def mask_of(array: np.ndarray, values: LabelValues) -> np.ndarray:
    """Where a label map has one of the values; None: any but the background."""
    if values is None:
        return array != 0
    if isinstance(values, int):
        return array == values
    return np.isin(array, values)


def prediction_masks(
    case: str,
    prediction: Volume,
    labels: Mapping[str, LabelValues],
    chosen: Mapping[str, LabelValues],
    settings: ScoreSettings,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The predicted mask of every chosen label, and flags about the probabilities."""
    array = prediction.array
    if array.dtype.kind != "f":
        return {name: mask_of(array, values) for name, values in chosen.items()}, []
    check_probabilities(case, array, labels, chosen)
    undefined = int(np.count_nonzero(np.isnan(array)))
    names = list(labels) if array.ndim == 4 else list(chosen)
    classes = class_map(array, settings.threshold)
    masks = {name: classes == names.index(name) + 1 for name in chosen}
    return masks, [f"{undefined} NaN probabilities counted as 0"] if undefined else []


def check_probabilities(
    case: str,
    array: np.ndarray,
    labels: Mapping[str, LabelValues],
    chosen: Mapping[str, LabelValues],
) -> None:
    """Refuse maps that are no probabilities, or not one for each label."""
    if array.size and (np.nanmin(array, initial=0) < 0 or np.nanmax(array, initial=0) > 1):
        raise DataError(
            case,
            "prediction holds neither labels nor probabilities",
            expected="integers, or probabilities from 0 to 1",
            received=f"values from {np.nanmin(array):.4g} to {np.nanmax(array):.4g}",
            fix="Write integer labels, or scale the map to probabilities.",
        )
    if array.ndim == 4 and (shared := _overlapping(labels)):
        raise DataError(
            case,
            "probabilities of labels that overlap",
            expected="labels of which every voxel has one, as it goes to the most probable",
            received=f"{' and '.join(shared)}, which share a value",
            fix="Cut the maps at a threshold and write masks.",
        )
    names = list(labels) if array.ndim == 4 else list(chosen)
    found = array.shape[3] if array.ndim == 4 else 1
    if found != len(names):
        raise DataError(
            case,
            "probabilities do not fit the labels",
            expected=f"{len(names)} maps ({', '.join(names)})",
            received=f"{found} maps",
            fix="Give one map per label, or choose the label of a single map.",
        )


def _overlapping(labels: Mapping[str, LabelValues]) -> tuple[str, str] | None:
    """Two labels that share a value, if there are any."""
    for (one, values), (other, others) in itertools.combinations(labels.items(), 2):
        if values is None or others is None or not _as_set(values).isdisjoint(_as_set(others)):
            return one, other
    return None


def _as_set(values: int | tuple[int, ...]) -> set[int]:
    return {values} if isinstance(values, int) else set(values)
