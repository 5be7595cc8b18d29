"""Connected components and the size filter in mm³."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cc3d
import numpy as np

from segpipe.geometry import bounding_box

Connectivity = Literal[6, 18, 26]

SIZE_TOLERANCE = 1e-6
"""Share by which a size may fall short of a limit: affines are stored in single precision."""


def label_components(mask: np.ndarray, connectivity: Connectivity = 26) -> tuple[np.ndarray, int]:
    """Number the connected components of a mask.

    Parameters
    ----------
    mask : (X, Y, Z) bool ndarray
    connectivity : {6, 18, 26}
        Neighbours of a voxel. A single slice (one axis of length 1) has 4, 8 and 8 of them.

    Returns
    -------
    labels : (X, Y, Z) int32 ndarray
        0 is background; components are numbered by their first voxel in C order.
    count : int

    Examples
    --------
    >>> import numpy as np
    >>> label_components(np.array([[[1, 0, 1]]], bool))[1]
    2
    """
    if not mask.any():
        return np.zeros(mask.shape, np.int32), 0
    # C order fixes the numbers; the empty layer keeps cc3d from running out of provisional labels
    # on odd shapes full of single voxels (seen in 4.1.1: "maximum length exception")
    box = tuple(slice(*limits) for limits in bounding_box(mask))  # a large scan is mostly empty
    part = mask[box]
    padded = np.zeros([n + 1 for n in part.shape], bool)
    inside = tuple(slice(0, n) for n in part.shape)
    padded[inside] = part
    found, count = cc3d.connected_components(
        padded, connectivity=connectivity, return_N=True, binary_image=True
    )
    labels = np.zeros(mask.shape, np.int32)
    labels[box] = found[inside]
    return labels, int(count)


def component_voxels(labels: np.ndarray, count: int) -> np.ndarray:
    """Voxels of every component.

    Parameters
    ----------
    labels : (X, Y, Z) int ndarray
    count : int
        Highest label.

    Returns
    -------
    (count,) int64 ndarray
        In label order; 0 for a label that does not occur.
    """
    return np.bincount(labels[labels > 0], minlength=count + 1)[1:].astype(np.int64)


def large_enough(voxels: np.ndarray, voxel_volume_mm3: float, min_size_mm3: float) -> np.ndarray:
    """Whether each component reaches a size limit.

    Parameters
    ----------
    voxels : (N,) int ndarray
    voxel_volume_mm3, min_size_mm3 : float

    Returns
    -------
    (N,) bool ndarray
        ``size ≥ min_size_mm3``, with a share of :data:`SIZE_TOLERANCE` for the rounding of
        affines in files.

    Examples
    --------
    >>> import numpy as np
    >>> large_enough(np.array([2, 3, 4]), 0.5, 1.5).tolist()
    [False, True, True]
    """
    return np.asarray(voxels) * voxel_volume_mm3 >= min_size_mm3 * (1 - SIZE_TOLERANCE)


def renumber(labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Give every component another number.

    Parameters
    ----------
    labels : (X, Y, Z) int ndarray
        0..N.
    numbers : (N + 1,) int32 ndarray
        The new number of each, 0 to remove it.

    Returns
    -------
    (X, Y, Z) int32 ndarray
    """
    result = np.empty(labels.shape, np.int32)
    for plane, own in zip(labels, result, strict=True):  # an index takes 8 bytes a voxel meanwhile
        own[...] = numbers[plane]
    return result


def size_bins(size_mm3: np.ndarray, edges_mm3: Sequence[float]) -> np.ndarray:
    """In which bin of size each component lies.

    Parameters
    ----------
    size_mm3 : (N,) float ndarray
    edges_mm3 : sequence of float
        Ascending; the last may be inf.

    Returns
    -------
    (N,) int ndarray
        k where ``edges_mm3[k] ≤ size < edges_mm3[k + 1]``, each limit with a share of
        :data:`SIZE_TOLERANCE` as in :func:`large_enough`; -1 below the first limit, the number of
        bins from the last one on.

    Examples
    --------
    >>> import numpy as np
    >>> size_bins(np.array([9.0, 9.999999, 10.0, 500.0]), (0.0, 10.0, np.inf)).tolist()
    [0, 1, 1, 1]
    """
    limits = np.asarray(edges_mm3, float) * (1 - SIZE_TOLERANCE)
    return np.searchsorted(limits, size_mm3, side="right") - 1


def component_probabilities(
    labels: np.ndarray, count: int, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and highest probability of every component.

    Parameters
    ----------
    labels : (X, Y, Z) int ndarray
    count : int
        Highest label.
    probability : (X, Y, Z) float ndarray
        In [0, 1].

    Returns
    -------
    mean, highest : (count,) float64 ndarray
        In label order; 0 for a label that does not occur.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[[1, 1, 0, 2]]])
    >>> mean, highest = component_probabilities(labels, 2, np.array([[[0.5, 1.0, 0.0, 0.75]]]))
    >>> mean.tolist(), highest.tolist()
    ([0.75, 0.75], [1.0, 0.75])
    """
    inside = labels > 0
    numbers, values = labels[inside], probability[inside].astype(np.float64)
    highest = np.zeros(count + 1)
    np.maximum.at(highest, numbers, values)
    total = np.bincount(numbers, values, count + 1)[1:]
    return total / np.maximum(np.bincount(numbers, minlength=count + 1)[1:], 1), highest[1:]
