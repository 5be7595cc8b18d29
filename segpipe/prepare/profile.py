"""How a channel's intensities are distributed, and whether others were like it.

A z-score takes away offset and gain, so what is left is the shape of the histogram: another
sequence, contrast, reconstruction or field of view changes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from segpipe.prepare.intensity import Scaling, foreground_values

PERCENTILES = (5, 25, 50, 75, 95, 99)

SLACK = 0.5
"""Share of the training cases' range that a percentile may lie beyond it."""

LEAST = 1 / 6
"""The range counts as at least this share of the distance from percentile 5 to 95."""

_SAMPLES = 1_000_000


def intensity_profile(array: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Percentiles of the foreground, as the network sees it.

    Parameters
    ----------
    array : (X, Y, Z) float ndarray
        Stored intensities of one channel.
    scaling : Scaling

    Returns
    -------
    (6,) float ndarray
        At :data:`PERCENTILES`, in normalised units.
    """
    foreground = foreground_values(array)
    step = -(-foreground.size // _SAMPLES)
    found = np.percentile(scaling.apply(foreground[::step]), PERCENTILES)
    return (found - scaling.shift) / scaling.scale


class ProfileRange(BaseModel):
    """Lowest and highest percentiles of one channel among the training cases.

    Parameters
    ----------
    low, high : tuple of float
        At :data:`PERCENTILES`, in normalised units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, profiles: Sequence[np.ndarray]) -> ProfileRange:
        """The range of some cases' profiles."""
        stacked = np.stack(profiles).astype(float)
        return cls(low=tuple(stacked.min(axis=0)), high=tuple(stacked.max(axis=0)))

    def joined(self, *others: ProfileRange) -> ProfileRange:
        """The range of all cases together."""
        every = (self, *others)
        return ProfileRange.of([np.array(end) for one in every for end in (one.low, one.high)])

    def furthest_outside(self, profile: np.ndarray) -> int | None:
        """Which percentile lies furthest beyond the range and its slack; None: none does.

        Parameters
        ----------
        profile : (6,) float ndarray
            Of :func:`intensity_profile`.

        Returns
        -------
        int or None
            Index into :data:`PERCENTILES`.
        """
        low, high = np.array(self.low), np.array(self.high)
        middle = (low + high) / 2
        width = middle[PERCENTILES.index(95)] - middle[PERCENTILES.index(5)]
        slack = SLACK * np.maximum(high - low, LEAST * width)
        beyond = np.maximum(low - slack - profile, profile - high - slack)
        worst = int(np.argmax(beyond))
        return worst if beyond[worst] > 0 else None
