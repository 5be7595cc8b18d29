"""Voxel-wise agreement of two masks, from the counts of their voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VoxelCounts:
    """Voxels of two masks on one grid.

    Parameters
    ----------
    reference, prediction, both : int
        Voxels of the reference, of the prediction, and of the two together.
    """

    reference: int
    prediction: int
    both: int


def count_voxels(reference: np.ndarray, prediction: np.ndarray) -> VoxelCounts:
    """Count the voxels of two (X, Y, Z) bool masks."""
    return VoxelCounts(
        int(np.count_nonzero(reference)),
        int(np.count_nonzero(prediction)),
        int(np.count_nonzero(reference & prediction)),
    )


def dice(counts: VoxelCounts) -> float:
    """2·|R∩P| / (|R|+|P|).

    Empty reference and prediction: nan. Empty reference only: 0. Empty prediction only: 0.
    """
    return _ratio(2 * counts.both, counts.reference + counts.prediction)


def iou(counts: VoxelCounts) -> float:
    """|R∩P| / |R∪P|.

    Empty reference and prediction: nan. Empty reference only: 0. Empty prediction only: 0.
    """
    return _ratio(counts.both, counts.reference + counts.prediction - counts.both)


def sensitivity(counts: VoxelCounts) -> float:
    """|R∩P| / |R|.

    Empty reference and prediction: nan. Empty reference only: nan. Empty prediction only: 0.
    """
    return _ratio(counts.both, counts.reference)


def precision(counts: VoxelCounts) -> float:
    """|R∩P| / |P|.

    Empty reference and prediction: nan. Empty reference only: 0. Empty prediction only: nan.
    """
    return _ratio(counts.both, counts.prediction)


def volume_error_ml(counts: VoxelCounts, voxel_volume_mm3: float) -> float:
    """Volume of the prediction minus that of the reference, in ml.

    Empty reference and prediction: 0. Empty reference only: the predicted volume. Empty
    prediction only: minus the reference's volume.
    """
    return (counts.prediction - counts.reference) * voxel_volume_mm3 / 1000


def absolute_volume_error_ml(counts: VoxelCounts, voxel_volume_mm3: float) -> float:
    """Difference of both volumes without its sign, in ml.

    Empty reference and prediction: 0. Empty reference only: the predicted volume. Empty
    prediction only: the reference's volume.
    """
    return abs(volume_error_ml(counts, voxel_volume_mm3))


def relative_volume_error(counts: VoxelCounts) -> float:
    """(|P|-|R|) / |R|; negative where the prediction is too small.

    Empty reference and prediction: nan. Empty reference only: nan. Empty prediction only: -1.
    """
    return _ratio(counts.prediction - counts.reference, counts.reference)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
