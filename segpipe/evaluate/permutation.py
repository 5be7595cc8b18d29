"""Whether a paired difference could be chance: sign flips over patients.

Fisher's randomisation test (The Design of Experiments, 1935, section 21) for paired differences;
for images see Nichols and Holmes, Human Brain Mapping 15:1-25, 2002, doi:10.1002/hbm.1058.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PURPOSE_FLIPS = 79
LEVEL = 0.05
FEWEST_PATIENTS = 6
"""With fewer, no p reaches :data:`LEVEL`: two of 2^n sign vectors are as extreme as any."""

EXACT_PATIENTS = 16
DRAWS = 9999


def sign_flip_p(
    differences: Sequence[float] | np.ndarray, patients: Sequence[str], seed: int = 0
) -> float:
    """Two-sided p of a mean of paired differences, if the two runs were exchangeable.

    The runs of a patient are exchanged together, which flips the sign of the sum of that
    patient's differences; p is the share of sign vectors whose total is at least as far from 0.

    Parameters
    ----------
    differences : (N,) float
        One per case, all defined.
    patients : (N,) str
        Whose case it is.
    seed : int
        Of the sign vectors that are drawn where more than :data:`EXACT_PATIENTS` patients differ.

    Returns
    -------
    float
        Exact over all sign vectors of up to :data:`EXACT_PATIENTS` patients; else over
        :data:`DRAWS` drawn ones and the observed one. 1 without a difference.

    Examples
    --------
    >>> sign_flip_p([1.0, 2.0, 3.0], ["a", "b", "c"])
    0.25
    >>> sign_flip_p([1.0, 2.0, 3.0], ["a", "b", "b"])
    0.5
    """
    owner = np.unique(np.asarray(patients, str), return_inverse=True)[1]
    sums = np.bincount(owner, np.asarray(differences, float)) if len(owner) else np.zeros(0)
    sums = sums[sums != 0]
    limit = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    if len(sums) <= EXACT_PATIENTS:
        totals = np.zeros(1)
        for one in sums:
            totals = np.concatenate([totals + one, totals - one])
        return float((np.abs(totals) >= limit).mean())
    rng = np.random.default_rng([seed, PURPOSE_FLIPS])
    totals = np.zeros(DRAWS)
    for one in sums:  # patient by patient: no matrix of draws and patients in memory
        totals += np.where(rng.random(DRAWS) < 0.5, one, -one)
    return float((1 + (np.abs(totals) >= limit).sum()) / (1 + DRAWS))
