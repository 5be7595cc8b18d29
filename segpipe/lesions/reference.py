"""The lesions of a reference, numbered as a counting rule does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segpipe.lesions.components import label_components
from segpipe.lesions.limits import Limits


@dataclass(frozen=True, eq=False)
class Lesions:
    """The reference's components.

    Parameters
    ----------
    labels : (x, y, z) int32 ndarray
        Lesions 1..N.
    reach : (x, y, z) int32 ndarray or None
        The same, grown, under a rule with dilation.
    """

    labels: np.ndarray
    reach: np.ndarray | None = None


def find_lesions(reference: np.ndarray, limits: Limits, *, instances: bool = False) -> Lesions:
    """Number the lesions of a reference as a rule does.

    Parameters
    ----------
    reference : (x, y, z) bool ndarray, or int ndarray of numbered lesions with ``instances``
    limits : Limits
    instances : bool
        Whether the reference numbers its lesions itself (any positive numbers).
    """
    if instances:
        labels = consecutive(reference)[0]
    else:
        labels = label_components(reference, limits.connectivity)[0]
    if not limits.rule.dilation_voxels:
        return Lesions(labels)
    labels, reach, _ = merge_by_dilation(labels, limits.rule.dilation_voxels)
    return Lesions(labels, reach)


def merge_by_dilation(labels: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Merge the lesions whose masks meet when all are grown.

    Parameters
    ----------
    labels : (X, Y, Z) int ndarray
        Lesions 1..N.
    steps : int
        Times that every mask grows by its 18 neighbours.

    Returns
    -------
    merged : (X, Y, Z) int32 ndarray
        Lesions 1..K, numbered by their first grown voxel.
    reach : (X, Y, Z) int32 ndarray
        The grown masks with the same numbers. Grown masks that meet, at a corner even, are one.
    count : int
        K.

    Examples
    --------
    >>> import numpy as np
    >>> merged, reach, count = merge_by_dilation(np.array([[[1, 0, 0, 2, 0, 0, 0, 3]]]), 1)
    >>> merged.tolist(), reach.tolist(), count
    ([[[1, 0, 0, 1, 0, 0, 0, 2]]], [[[1, 1, 1, 1, 1, 0, 2, 2]]], 2)
    """
    neighbours = ndimage.generate_binary_structure(3, 2)
    grown = ndimage.binary_dilation(labels > 0, neighbours, iterations=steps)
    reach, count = label_components(grown, 26)
    return np.where(labels > 0, reach, 0), reach, count


def consecutive(numbers: np.ndarray) -> tuple[np.ndarray, int]:
    """Renumber positive labels to 1..N, in ascending order; returns the map and N."""
    values = np.unique(numbers[numbers > 0])
    labels = np.zeros(numbers.shape, np.int32)
    inside = numbers > 0
    labels[inside] = np.searchsorted(values, numbers[inside]) + 1
    return labels, len(values)
