"""Losses that count: for any Keras model, and the compound that segpipe itself trains on.

What is named here needs Keras and nothing else. The compound of the pipeline, its ramps and its log
are in :mod:`segpipe.losses.compound`.
"""

from segpipe.losses.counting import (
    count_above_threshold,
    count_plus_cross_entropy,
    hard_count,
    masked_count,
)
from segpipe.losses.counting_losses import (
    CountAboveThreshold,
    CountPlusCrossEntropy,
    MaskedCount,
)
from segpipe.losses.filtered import (
    filtered_loss,
    masked_mean_squared_error,
    thresholded_mean_absolute_error,
)
from segpipe.losses.filtered_losses import (
    FilteredLoss,
    MaskedMeanSquaredError,
    ThresholdedMeanAbsoluteError,
)
from segpipe.losses.metrics import FalsePositiveRegions, HardCount, MissedLesionCount
from segpipe.losses.penalties import (
    false_positive_regions,
    missed_lesion_count,
    missed_lesions,
    region_count,
    voxel_count,
)
from segpipe.losses.penalty_losses import MissedLesions, RegionCount, VoxelCount

__all__ = [
    "CountAboveThreshold",
    "CountPlusCrossEntropy",
    "FalsePositiveRegions",
    "FilteredLoss",
    "HardCount",
    "MaskedCount",
    "MaskedMeanSquaredError",
    "MissedLesionCount",
    "MissedLesions",
    "RegionCount",
    "ThresholdedMeanAbsoluteError",
    "VoxelCount",
    "count_above_threshold",
    "count_plus_cross_entropy",
    "false_positive_regions",
    "filtered_loss",
    "hard_count",
    "masked_count",
    "masked_mean_squared_error",
    "missed_lesion_count",
    "missed_lesions",
    "region_count",
    "thresholded_mean_absolute_error",
    "voxel_count",
]
