"""Reorient and crop, each with its inverse: views of the voxels, nothing is computed."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from segpipe.errors import GeometryError

Shape3 = tuple[int, int, int]
Flips = tuple[bool, bool, bool]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def ras_orientation(affine: np.ndarray) -> tuple[Shape3, Flips]:
    """Stored axes and flips that bring a grid closest to right, anterior, superior.

    Parameters
    ----------
    affine : (4, 4) float ndarray

    Returns
    -------
    axes : (3,) int
        Stored axis that becomes R, A and S.
    flips : (3,) bool
        Whether R, A and S run against the stored axis.

    Raises
    ------
    GeometryError
        If the columns of the affine do not span three directions.
    """
    orientation = nib.io_orientation(affine)
    if not np.isfinite(orientation).all():
        raise GeometryError(
            f"affine: expected three distinct directions; received {np.asarray(affine).tolist()}"
        )
    target = orientation[:, 0].astype(int)
    x, y, z = (int(axis) for axis in np.argsort(target))
    r, a, s = (bool(orientation[axis, 1] < 0) for axis in (x, y, z))
    return (x, y, z), (r, a, s)


def reorient(array: np.ndarray, axes: Shape3, flips: Flips) -> np.ndarray:
    """View of (X, Y, Z[, C]) voxels with permuted and flipped spatial axes."""
    view = np.transpose(array, (*axes, *range(3, array.ndim)))
    return view[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]


def unreorient(array: np.ndarray, axes: Shape3, flips: Flips) -> np.ndarray:
    """Inverse of :func:`reorient`."""
    view = array[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]
    back = tuple(int(axis) for axis in np.argsort(axes))
    return np.transpose(view, (*back, *range(3, array.ndim)))


def crop(array: np.ndarray, box: Box) -> np.ndarray:
    """View of (X, Y, Z[, C]) voxels inside a box of (start, stop) per axis."""
    return array[tuple(slice(start, stop) for start, stop in box)]


def uncrop(array: np.ndarray, box: Box, shape: Shape3, fill: float = 0.0) -> np.ndarray:
    """Inverse of :func:`crop`: voxels outside the box become ``fill``."""
    if all(start == 0 and stop == n for (start, stop), n in zip(box, shape, strict=True)):
        return array
    out = np.full((*shape, *array.shape[3:]), fill, dtype=array.dtype)
    out[tuple(slice(start, stop) for start, stop in box)] = array
    return out


def bounding_box(mask: np.ndarray) -> Box:
    """Smallest box that holds every true voxel of an (X, Y, Z) mask; all of it when empty."""
    limits = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        limits.append((int(hit[0]), int(hit[-1]) + 1) if hit.size else (0, mask.shape[axis]))
    return limits[0], limits[1], limits[2]
