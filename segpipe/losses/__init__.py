"""Losses that count: for any Keras model, and the compound that segpipe itself trains on.

What is named here needs Keras and nothing else. Penalties on regions are in
:mod:`segpipe.losses.regions`, the compound in :mod:`segpipe.losses.compound`.
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
from segpipe.losses.metrics import HardCount

__all__ = [
    "CountAboveThreshold",
    "CountPlusCrossEntropy",
    "FilteredLoss",
    "HardCount",
    "MaskedCount",
    "MaskedMeanSquaredError",
    "ThresholdedMeanAbsoluteError",
    "count_above_threshold",
    "count_plus_cross_entropy",
    "filtered_loss",
    "hard_count",
    "masked_count",
    "masked_mean_squared_error",
    "thresholded_mean_absolute_error",
]
