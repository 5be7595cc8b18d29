"""Intensities: scaled to [0, 1] for augmentation, with what normalises them afterwards.

What the network sees is ``(scaled - shift) / scale``. Augmentation works on ``scaled`` and clips
to [0, 1]; so the range keeps room above the bright end of the tissue, as far as the scan itself
goes beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from segpipe.errors import DataError

PERCENTILES = (0.05, 99.95)
ROOM_BELOW, ROOM_ABOVE = 0.5, 1.0
"""Room kept beyond the percentiles, as shares of the distance between them."""

CONSTANT_BACKGROUND = 0.05
"""Share of voxels that are exactly 0 from which 0 means background, not tissue."""

_SAMPLES = 1_000_000
_LARGEST, _SMALLEST = 1e30, 1e-35  # ranges whose inverse float32 holds


class ChannelIntensities(BaseModel):
    """Intensities of one channel over the labelled voxels of the training cases.

    ``low`` and ``high`` are the percentiles 0.5 and 99.5; all are in the scans' own units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float
    median: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class Scaling:
    """From stored intensities to [0, 1], and on to what the network sees.

    Parameters
    ----------
    low, high : float
        Stored intensities that become 0 and 1; those beyond are clipped.
    shift, scale : float
        ``(scaled - shift) / scale`` is the normalised intensity; ``scale`` is positive.
    """

    low: float
    high: float
    shift: float
    scale: float

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Scale stored intensities to [0, 1], as a new float32 array; 0 where ``low == high``."""
        if not self.high > self.low:
            return np.zeros(array.shape, np.float32)
        low, span = np.float32(self.low), np.float32(self.high - self.low)
        scaled = np.clip(array, low, np.float32(self.high), dtype=np.float32)
        scaled -= low
        scaled /= span
        return np.clip(scaled, 0.0, 1.0, out=scaled)


def foreground_values(array: np.ndarray) -> np.ndarray:
    """Values that describe the tissue, as a flat array.

    Where at least 5 % of the voxels are exactly 0 (a stripped skull, a masked scan), those that
    are not 0; else every voxel, and also when nothing is left.
    """
    zeros = array.size - np.count_nonzero(array)
    if CONSTANT_BACKGROUND * array.size <= zeros < array.size:
        return array[array != 0]
    return array.reshape(-1)


def robust_range(array: np.ndarray, foreground: np.ndarray) -> tuple[float, float]:
    """Range of stored intensities that becomes [0, 1].

    All of the array's range where it lies within the percentiles 0.05 and 99.95 of the
    foreground, widened downwards by half of their distance and upwards by all of it; what lies
    beyond (hot voxels, a far background) is clipped. Where the percentiles coincide, as in a mask,
    there is no distance to go by: all of the array's range.
    """
    step = -(-foreground.size // _SAMPLES)
    low, high = np.percentile(foreground[::step].astype(np.float64), PERCENTILES)
    span = high - low
    if not span > 0:
        return float(array.min()), float(array.max())
    return (
        float(max(array.min(), low - ROOM_BELOW * span)),
        float(min(array.max(), high + ROOM_ABOVE * span)),
    )


def zscore_scaling(array: np.ndarray) -> Scaling:
    """Mean 0 and standard deviation 1 over the case's own foreground.

    A constant foreground has no standard deviation: 1 in its place.
    """
    foreground = foreground_values(array)
    low, high = robust_range(array, foreground)
    if not high > low:
        return Scaling(low, high, 0.0, 1.0)
    unit = Scaling(low, high, 0.0, 1.0).apply(foreground)
    std = float(unit.std(dtype=np.float64))
    return Scaling(low, high, float(unit.mean(dtype=np.float64)), std if std > 1e-6 else 1.0)


def ct_scaling(stats: ChannelIntensities) -> Scaling:
    """Clip to the training set's percentiles 0.5 and 99.5; its mean becomes 0, its std 1."""
    span = stats.high - stats.low
    if not span > 0:
        return Scaling(stats.low, stats.high, 0.0, 1.0)
    std = stats.std / span
    return Scaling(stats.low, stats.high, (stats.mean - stats.low) / span, std if std > 0 else 1.0)


def stored_scaling(array: np.ndarray) -> Scaling:
    """Intensities as stored: minimum and maximum become 0 and 1, and ``shift`` and ``scale``
    undo just that, up to the rounding of float32. Nothing is clipped.
    """
    low, high = float(array.min()), float(array.max())
    if not high - low > _SMALLEST:
        return Scaling(low, low, -low, 1.0)
    return Scaling(low, high, -low / (high - low), 1.0 / (high - low))


def channel_scaling(
    array: np.ndarray,
    normalise: Literal["zscore", "ct", "none"],
    stats: ChannelIntensities | None,
) -> Scaling:
    """How to scale one channel.

    Parameters
    ----------
    array : (X, Y, Z) float32 ndarray
        Stored intensities of the cropped scan.
    normalise : {"zscore", "ct", "none"}
    stats : ChannelIntensities, optional
        Of the training set; needed for ``ct``.

    Raises
    ------
    DataError
        If there are NaN or infinite voxels, or magnitudes that float32 cannot subtract.
    """
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(
            "image",
            "voxels that are not finite",
            expected="finite intensities",
            received=f"range {low:g} to {high:g}",
            fix="Set data.repair_nan to replace them by 0.",
        )
    if max(-low, high) > _LARGEST:
        raise DataError(
            "image",
            "intensities too large to normalise",
            expected=f"magnitudes up to {_LARGEST:g}",
            received=f"range {low:g} to {high:g}",
            fix="Rescale the scan or mend its header.",
        )
    if normalise == "ct":
        if stats is None:
            raise DataError(
                "plan", "no intensities of the training set", expected="them for normalise: ct"
            )
        return ct_scaling(stats)
    return zscore_scaling(array) if normalise == "zscore" else stored_scaling(array)
