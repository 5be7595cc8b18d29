"""Resampling over the same field of view, for intensities and for labels.

The outer edges of the first and last voxel stay where they are, voxel centres move. Resampling
is separable: the one-dimensional operator of each axis is what `scipy.ndimage.zoom` does to the
identity matrix, so a volume takes three sparse products and equals scipy's result.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import ndimage, sparse

from segpipe.geometry.steps import Shape3

AXES = "RAS"
"""Letters of the three axes of a prepared grid: each grows to the right, front, or top."""

THICK_SLICES = 3.0
"""Spacing over the finest spacing from which an axis counts as thick."""

NEGLIGIBLE = 1e-8
"""Weights below it are left out: float32 could hardly tell."""


def thick_axes(spacing_mm: Sequence[float]) -> tuple[bool, ...]:
    """Which axes are more than three times as coarse as the finest one.

    Examples
    --------
    >>> thick_axes((1.0, 1.0, 6.0))
    (False, False, True)
    """
    finest = min(spacing_mm)
    return tuple(spacing > THICK_SLICES * finest for spacing in spacing_mm)


def slice_axis(spacing_mm: Sequence[float]) -> int:
    """The axis across which a 2-D network takes its slices: the coarsest, the last of equals.

    Examples
    --------
    >>> slice_axis((1.0, 5.0, 1.0)), slice_axis((1.0, 1.0, 1.0))
    (1, 2)
    """
    coarsest = max(spacing_mm)
    return max(axis for axis, spacing in enumerate(spacing_mm) if spacing == coarsest)


BLOCK = 1 << 20
"""Voxels that are turned at once, so that the axis to resample comes first."""


@lru_cache(maxsize=512)
def resampling_operator(size: int, target: int, order: int) -> sparse.csr_array:
    """Matrix that resamples one axis, edges aligned, borders repeated.

    Parameters
    ----------
    size, target : int
        Voxels along the axis before and after.
    order : int
        Of the spline: 0 nearest, 1 linear, 3 cubic. When ``target`` is smaller and the order is
        not 0, a Gaussian of ``(size / target - 1) / 2`` voxels comes first, so that what is finer
        than the new grid does not fold into it.

    Returns
    -------
    (target, size) float32 sparse array
        Rows sum to 1. It is shared: not to be changed.
    """
    operator = np.eye(size)
    if target != size:
        operator = ndimage.zoom(
            operator, (target / size, 1), order=order, mode="nearest", grid_mode=True
        )
    if target < size and order > 0:
        blur = ndimage.gaussian_filter1d(
            np.eye(size), (size / target - 1) / 2, axis=0, mode="nearest"
        )
        operator = operator @ blur
    return as_operator(operator)


def as_operator(matrix: np.ndarray) -> sparse.csr_array:
    """Matrix for :func:`apply_along`, without its negligible weights."""
    weights = np.where(np.abs(matrix) < NEGLIGIBLE, 0, matrix)
    return sparse.csr_array(weights.astype(np.float32))


def apply_along(operator: sparse.csr_array, array: np.ndarray, axis: int) -> np.ndarray:
    """Product of a (M, N) operator with one axis of (X, Y, Z) float32 voxels that has N of them.

    Operators are bands, so a sparse product does little more than a dense one would at its
    best; it has no threads that would wait for busy cores, and the same result on any number.
    """
    if axis == 0:
        return (operator @ array.reshape(len(array), -1)).reshape(-1, *array.shape[1:])
    shape = list(array.shape)
    shape[axis] = operator.shape[0]
    result = np.empty(shape, np.float32)
    planes = max(1, BLOCK * len(array) // max(1, array.size))
    for first in range(0, len(array), planes):  # no turned copies of a whole large volume
        turned = np.moveaxis(array[first : first + planes], axis, 0)
        product = operator @ np.ascontiguousarray(turned).reshape(len(turned), -1)
        product = product.reshape(-1, *turned.shape[1:])
        result[first : first + planes] = np.moveaxis(product, 0, axis)
    return result


def resample(array: np.ndarray, shape: Shape3, orders: int | Sequence[int]) -> np.ndarray:
    """Resample (X, Y, Z[, C]) voxels to another number of voxels over the same field of view.

    Parameters
    ----------
    array : (X, Y, Z) or (X, Y, Z, C) ndarray
    shape : (3,) int
        Voxels afterwards.
    orders : int or (3,) int
        Spline order, the same or one per axis.

    Returns
    -------
    float32 ndarray
        ``array`` itself, type included, when it has the shape already. Up to order 1 the values
        stay within the range of the input.
    """
    if array.shape[:3] == tuple(shape):
        return array
    if array.ndim == 4:
        out = np.empty((*shape, array.shape[3]), np.float32)
        for channel in range(array.shape[3]):
            out[..., channel] = resample(array[..., channel], shape, orders)
        return out
    per_axis = (orders,) * 3 if isinstance(orders, int) else tuple(orders)
    result = np.ascontiguousarray(array, dtype=np.float32)
    # The axes that shrink most go first: fewer voxels for the others.
    for axis in sorted(range(3), key=lambda a: shape[a] / array.shape[a]):
        if shape[axis] != result.shape[axis]:
            operator = resampling_operator(result.shape[axis], shape[axis], per_axis[axis])
            result = apply_along(operator, result, axis)
    if max(per_axis) <= 1 and array.size:
        np.clip(result, array.min(), array.max(), out=result)
    return result


def resample_labels(labels: np.ndarray, shape: Shape3) -> np.ndarray:
    """Resample (X, Y, Z) integral labels: each linearly as a mask, the largest share wins.

    No value appears that was not there. At equal shares the higher label wins, so foreground
    over background.
    """
    if labels.shape == tuple(shape):
        return labels
    values = np.unique(labels)
    out = np.full(shape, values[0], dtype=labels.dtype)
    if len(values) == 1:
        return out
    best = resample((labels == values[0]).astype(np.float32), shape, 1)
    for value in values[1:]:
        share = resample((labels == value).astype(np.float32), shape, 1)
        wins = share >= best
        out[wins] = value
        np.copyto(best, share, where=wins)
    return out
