"""Bootstrap over patients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

PURPOSE_BOOTSTRAP = 71


def draw_patients(patients: Sequence[str], draws: int, seed: int) -> np.ndarray | None:
    """How often each case is in each draw, when whole patients are drawn with replacement.

    Parameters
    ----------
    patients : (N,) str
        Whose case it is; the cases of a patient are drawn together.
    draws : int
    seed : int

    Returns
    -------
    (draws, N) int ndarray or None
        None without draws, or with fewer than two patients: one patient says nothing about others.
    """
    return _draw(tuple(patients), draws, seed)


@lru_cache(maxsize=8)  # every figure of a cohort is drawn over the same patients
def _draw(patients: tuple[str, ...], draws: int, seed: int) -> np.ndarray | None:
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if draws == 0 or len(names) < 2:
        return None
    rng = np.random.default_rng([seed, PURPOSE_BOOTSTRAP])
    drawn = rng.integers(0, len(names), size=(draws, len(names)))
    times = np.zeros((draws, len(names)), np.int64)
    np.add.at(times, (np.arange(draws)[:, None], drawn), 1)
    return times[:, owner]


def mean_interval(
    values: Sequence[float] | np.ndarray, patients: Sequence[str], draws: int, seed: int
) -> tuple[float, float] | None:
    """95 % interval of a mean over cases, when whole patients are drawn.

    Parameters
    ----------
    values : (N,) float
        One per case, all defined.
    patients, draws, seed
        As in :func:`draw_patients`.

    Returns
    -------
    (low, high) or None
        The 2.5th and 97.5th percentile of the mean over the draws; None where nothing can be drawn.
    """
    return ratio_interval(values, np.ones(len(values)), patients, draws, seed)


def ratio_interval(
    parts: Sequence[float] | np.ndarray,
    wholes: Sequence[float] | np.ndarray,
    patients: Sequence[str],
    draws: int,
    seed: int,
) -> tuple[float, float] | None:
    """95 % interval of a ratio of sums over cases, such as pooled lesion sensitivity.

    Parameters
    ----------
    parts, wholes : (N,) float
        Numerator and denominator of each case.
    patients, draws, seed
        As in :func:`draw_patients`.

    Returns
    -------
    (low, high) or None
        Over the draws whose denominator is above 0; None where there are none.
    """
    weights = draw_patients(patients, draws, seed)
    if weights is None:
        return None
    above, below = weights @ np.asarray(parts, float), weights @ np.asarray(wholes, float)
    known = above[below > 0] / below[below > 0]
    if len(known) == 0:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
