"""Detection by coverage, as the MSSEG challenge counts it."""

from __future__ import annotations

import numpy as np

COVERED = 0.1
"""α: share of a component that the other side must cover."""
OUTSIDE = 0.7
"""β: share of a contributing component that may lie outside the other side."""
CONTRIBUTING = 0.65
"""γ: share of the overlap that the largest contributors, taken in turn, must bring."""


def covered(
    mine: np.ndarray,
    others: np.ndarray,
    voxels: np.ndarray,
    my_voxels: np.ndarray,
    other_voxels: np.ndarray,
) -> np.ndarray:
    """Whether each component is detected by those of the other side.

    A component is detected when more than α of it is covered, and none of its largest
    contributors, taken in order of overlap until they bring γ of it, lies outside by more than β.
    Of equal overlaps the larger component comes first, then the lower number: the sources leave
    it open.

    Parameters
    ----------
    mine, others : (E,) int ndarray
        Overlapping pairs, component numbers from 1; each pair once.
    voxels : (E,) int ndarray
        What the pair shares, above 0.
    my_voxels, other_voxels : (N,) and (M,) int ndarray
        Size of every component on either side.

    Returns
    -------
    (N,) bool ndarray
        False for a component that overlaps nothing.

    References
    ----------
    Commowick et al., Objective evaluation of multiple sclerosis lesion segmentation using a data
    management and processing infrastructure, Scientific Reports 2018.
    doi:10.1038/s41598-018-31911-7

    Examples
    --------
    >>> import numpy as np
    >>> pairs = np.array([1, 2]), np.array([1, 2]), np.array([5, 1])
    >>> covered(*pairs, np.array([8, 20]), np.array([5, 1])).tolist()
    [True, False]
    """
    inside = np.bincount(mine, voxels, len(my_voxels) + 1)[1:]
    used = np.bincount(others, voxels, len(other_voxels) + 1)[1:]
    order = np.lexsort((others, -other_voxels[others - 1], -voxels, mine))
    owner, shared = mine[order], voxels[order].astype(float)
    starts = np.r_[True, owner[1:] != owner[:-1]] if len(owner) else np.zeros(0, bool)
    before = np.cumsum(shared) - shared
    before -= np.repeat(before[starts], np.diff(np.r_[np.flatnonzero(starts), len(owner)]))
    taken = before < CONTRIBUTING * inside[owner - 1]
    outside = 1 - used / np.maximum(other_voxels, 1)
    spoilt = taken & (outside[others[order] - 1] > OUTSIDE)
    return (inside > COVERED * my_voxels) & (
        np.bincount(owner[spoilt], minlength=len(my_voxels) + 1)[1:] == 0
    )
