"""Bootstrap over patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PURPOSE_BOOTSTRAP = 71


def mean_interval(
    values: Sequence[float] | np.ndarray, patients: Sequence[str], draws: int, seed: int
) -> tuple[float, float] | None:
    """95 % interval of a mean over cases, when whole patients are drawn.

    Parameters
    ----------
    values : (N,) float
        One per case, all defined.
    patients : (N,) str
        Whose case it is; the cases of a patient are drawn together.
    draws : int
    seed : int

    Returns
    -------
    (low, high) or None
        The 2.5th and 97.5th percentile of the mean over the draws. None without draws, or with
        fewer than two patients: one patient says nothing about others.
    """
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if draws == 0 or len(names) < 2:
        return None
    sums = np.bincount(owner, weights=np.asarray(values, float))
    cases = np.bincount(owner)
    rng = np.random.default_rng([seed, PURPOSE_BOOTSTRAP])
    drawn = rng.integers(0, len(names), size=(draws, len(names)))
    means = sums[drawn].sum(axis=1) / cases[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
