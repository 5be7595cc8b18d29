"""The whole way from a scan's own grid to the prepared grid and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.errors import GeometryError
from segpipe.geometry.resampling import resample, resample_labels, thick_axes
from segpipe.geometry.steps import (
    Box,
    Flips,
    Shape3,
    crop,
    ras_orientation,
    reorient,
    uncrop,
    unreorient,
)

SAME_SPACING = 0.01
"""Relative difference of spacing below which an axis is left as it is."""


@dataclass(frozen=True)
class GridTransform:
    """The way from a scan's stored grid to the prepared grid, and exactly back.

    Parameters
    ----------
    source_shape : (3,) int
        Voxels of the scan as stored.
    source_affine : (4, 4) float
        Of the scan as stored, as nested tuples.
    axes, flips : (3,) int, (3,) bool
        See :func:`ras_orientation`.
    box : (3, 2) int
        What is kept, as (start, stop) along R, A, S.
    target_shape : (3,) int
        Voxels after resampling the box.
    """

    source_shape: Shape3
    source_affine: tuple[tuple[float, ...], ...]
    axes: Shape3
    flips: Flips
    box: Box
    target_shape: Shape3

    @property
    def source_spacing_mm(self) -> tuple[float, float, float]:
        """Spacing of the scan along R, A, S."""
        stored = np.linalg.norm(np.array(self.source_affine)[:3, :3], axis=0)
        r, a, s = (float(stored[axis]) for axis in self.axes)
        return r, a, s

    @property
    def box_shape(self) -> Shape3:
        """Voxels of the box before resampling, along R, A, S."""
        r, a, s = (stop - start for start, stop in self.box)
        return r, a, s

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing of the prepared grid: near the one asked for, as the field of view is kept."""
        sizes = zip(self.source_spacing_mm, self.box_shape, self.target_shape, strict=True)
        r, a, s = (spacing * before / after for spacing, before, after in sizes)
        return r, a, s

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) float ndarray: prepared voxel index to world coordinates in mm."""
        to_stored = np.zeros((4, 4))
        to_stored[3, 3] = 1.0
        for target, axis in enumerate(self.axes):
            step = self.box_shape[target] / self.target_shape[target]
            first = self.box[target][0] + step / 2 - 0.5
            flipped = self.flips[target]
            to_stored[axis, target] = -step if flipped else step
            to_stored[axis, 3] = self.source_shape[axis] - 1 - first if flipped else first
        return np.array(self.source_affine) @ to_stored

    def orders(self, order: int) -> tuple[int, int, int]:
        """Spline order per axis: at most linear through thick slices, of either grid."""
        thick = zip(thick_axes(self.source_spacing_mm), thick_axes(self.spacing_mm), strict=True)
        r, a, s = (min(order, 1) if any(pair) else order for pair in thick)
        return r, a, s

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "source_shape": list(self.source_shape),
            "source_affine": [list(row) for row in self.source_affine],
            "axes": list(self.axes),
            "flips": list(self.flips),
            "box": [list(limits) for limits in self.box],
            "target_shape": list(self.target_shape),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GridTransform:
        """Inverse of :meth:`to_dict`."""
        (r0, r1), (a0, a1), (s0, s1) = values["box"]
        return cls(
            source_shape=tuple(values["source_shape"]),
            source_affine=tuple(tuple(row) for row in values["source_affine"]),
            axes=tuple(values["axes"]),
            flips=tuple(values["flips"]),
            box=((r0, r1), (a0, a1), (s0, s1)),
            target_shape=tuple(values["target_shape"]),
        )


def grid_transform(
    shape: Shape3,
    affine: np.ndarray,
    spacing_mm: Sequence[float] | None = None,
    box: Box | None = None,
) -> GridTransform:
    """Plan the way from a stored grid to a prepared one.

    Parameters
    ----------
    shape : (3,) int
        Voxels as stored.
    affine : (4, 4) float ndarray
    spacing_mm : (3,) float, optional
        Target along R, A, S; an axis within 1 % of it, and every axis without it, stays.
    box : (3, 2) int, optional
        What to keep, as (start, stop) along R, A, S; default: everything.

    Raises
    ------
    GeometryError
        If the affine has no orientation or the target spacing is not positive.
    """
    axes, flips = ras_orientation(affine)
    if box is None:
        box = ((0, shape[axes[0]]), (0, shape[axes[1]]), (0, shape[axes[2]]))
    rows = tuple(tuple(float(v) for v in row) for row in np.asarray(affine))
    source = (int(shape[0]), int(shape[1]), int(shape[2]))
    r, a, s = (stop - start for start, stop in box)
    unchanged = GridTransform(source, rows, axes, flips, box, (r, a, s))
    if spacing_mm is None:
        return unchanged
    if not all(np.isfinite(spacing_mm)) or min(spacing_mm) <= 0:
        raise GeometryError(f"spacing_mm: expected three positive numbers; received {spacing_mm}")
    sizes = []
    for size, before, after in zip((r, a, s), unchanged.spacing_mm, spacing_mm, strict=True):
        same = abs(before - after) <= SAME_SPACING * before
        sizes.append(size if same else max(1, round(size * before / after)))
    return GridTransform(source, rows, axes, flips, box, (sizes[0], sizes[1], sizes[2]))


def _check_grid(array: np.ndarray, expected: Shape3, what: str) -> None:
    if array.shape[:3] != expected:
        raise GeometryError(f"{what}: expected voxels {expected}; received {array.shape}")


def forward(array: np.ndarray, transform: GridTransform, order: int) -> np.ndarray:
    """Bring (X, Y, Z[, C]) voxels of the scan's grid to the prepared grid.

    Cubic resampling is linear through thick slices. The result may share memory with the input.
    """
    _check_grid(array, transform.source_shape, "forward")
    kept = crop(reorient(array, transform.axes, transform.flips), transform.box)
    return np.ascontiguousarray(resample(kept, transform.target_shape, transform.orders(order)))


def forward_labels(labels: np.ndarray, transform: GridTransform) -> np.ndarray:
    """Bring (X, Y, Z) integral labels to the prepared grid (see :func:`resample_labels`)."""
    _check_grid(labels, transform.source_shape, "forward_labels")
    kept = crop(reorient(labels, transform.axes, transform.flips), transform.box)
    return np.ascontiguousarray(resample_labels(kept, transform.target_shape))


def inverse(
    array: np.ndarray, transform: GridTransform, order: int, fill: float = 0.0
) -> np.ndarray:
    """Bring prepared (X, Y, Z[, K]) voxels back to the scan's own grid.

    Without resampling, ``inverse(forward(x))`` is ``x`` inside the box, bit for bit. Voxels
    outside the box become ``fill``. The result may share memory with the input.
    """
    _check_grid(array, transform.target_shape, "inverse")
    kept = resample(array, transform.box_shape, transform.orders(order))
    ras = tuple(transform.source_shape[axis] for axis in transform.axes)
    whole = uncrop(kept, transform.box, (ras[0], ras[1], ras[2]), fill)
    return np.ascontiguousarray(unreorient(whole, transform.axes, transform.flips))
