"""Choosing between settings on few patients: as good as the best, and nearest to the present one.

The one-standard-error rule (Breiman, Friedman, Olshen, Stone: Classification and Regression Trees,
1984, section 3.4.3), with the standard error of the paired difference: the highest of many noisy
means is a matter of luck, so what falls short of it by no more than luck would is as good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

TOLERANCE = 1e-12


def standard_error(differences: np.ndarray, patients: Sequence[str]) -> float:
    """Standard error of a mean of paired differences, with patients as clusters.

    Parameters
    ----------
    differences : (N,) float ndarray
        nan: undefined, left out.
    patients : (N,) sequence of str
        Whose each is; the differences of a patient are not independent.

    Returns
    -------
    float
        √(P/(P-1) · Σ over patients of (Σ of their deviations from the mean)²) / N. With one
        difference for each patient that is s/√N. Infinite with fewer than two patients: one says
        nothing about others.

    Examples
    --------
    >>> import numpy as np
    >>> round(standard_error(np.array([0.0, 0.0, 0.3]), ["a", "b", "c"]), 6)
    0.1
    """
    defined = ~np.isnan(differences)
    owners = np.unique(np.asarray(patients, str)[defined], return_inverse=True)[1]
    count = int(owners.max(initial=-1)) + 1
    if count < 2:
        return math.inf
    deviations = differences[defined] - differences[defined].mean()
    sums = np.bincount(owners, deviations)
    return float(np.sqrt(count / (count - 1) * (sums**2).sum()) / defined.sum())


def mean_of(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis where defined; nan where nothing is."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=-1)
    total = np.where(defined, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def nearest_as_good(values: np.ndarray, patients: Sequence[str]) -> int:
    """The first candidate that is as good as the best, and no worse than the first of all.

    Parameters
    ----------
    values : (V, N) float ndarray
        What is to be high, of each candidate in each case; nan in the same cases for all of them.
        Candidates in order from the present setting outwards.
    patients : (N,) sequence of str

    Returns
    -------
    int
        The first whose mean falls short of the highest by at most one standard error of the
        paired difference; 0, the present setting, with fewer than two patients.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[0.5, 0.6, 0.4], [0.6, 0.7, 0.6], [0.6, 0.8, 0.6]])
    >>> nearest_as_good(values, ["a", "b", "c"])
    1
    """
    means = mean_of(values)
    best = int(np.argmax(means >= means.max() - TOLERANCE))
    for index in range(best):
        short = means[best] - means[index]
        error = standard_error(values[best] - values[index], patients)
        if means[index] >= means[0] - TOLERANCE and short <= error + TOLERANCE:
            return index
    return best
