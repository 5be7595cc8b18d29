"""Intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 1000


def draw(patients: int) -> np.ndarray:
    """(1000, patients) float: how often each was drawn, with replacement; the same every time."""
    rng = np.random.default_rng([0, patients])
    shares = np.full(patients, 1 / patients)
    return rng.multinomial(patients, shares, size=DRAWS).astype(float)


def interval(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """The middle 95 % of the draws in which a figure is defined, which it is not where it is nan.

    An end is None where it is infinite, and both are where no draw is defined.
    """
    defined = np.asarray(values, float)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return [None, None]
    ends = np.quantile(defined, (0.025, 0.975), method="inverted_cdf")
    return [float(end) if np.isfinite(end) else None for end in ends]
