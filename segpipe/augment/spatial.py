"""Transforms that move voxels, as albumentations transforms of volume, labels and regions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import albumentations as al
import numpy as np

from segpipe.augment.sampling import sample_linear, sample_nearest
from segpipe.geometry import resample

_NODE_VOXELS = 16
_ANGLES = 13  # about each axis that are tried for how far a rotation reaches


def rotation_matrix(radians: Sequence[float] | np.ndarray) -> np.ndarray:
    """(3, 3) rotation about the first, then the second, then the third axis."""
    matrix = np.eye(3)
    for axis, angle in enumerate(radians):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


class Deform3D(al.Transform3D):
    """Rotation, scaling and elastic deformation in one interpolation, then the patch's centre.

    Angles and lengths are those of the world: voxel coordinates are brought to mm and back.
    The data hold ``patch``, the (3,) voxels to return from the middle of a larger block, and
    ``around``, the (3,) voxels of labels to return beyond them on each side.

    Parameters
    ----------
    spacing_mm : (3,) float
    fixed_axes : (3,) bool
        Axes along which nothing moves, such as that across thick slices.
    rotate, scale, elastic : float
        Probability of each.
    rotate_degrees : float
        Largest angle about each axis.
    scale_range : (float, float)
        Smallest and largest magnification.
    elastic_mm : float
        Largest displacement.
    """

    def __init__(
        self,
        spacing_mm: tuple[float, float, float],
        fixed_axes: tuple[bool, bool, bool],
        rotate: float,
        rotate_degrees: float,
        scale: float,
        scale_range: tuple[float, float],
        elastic: float,
        elastic_mm: float,
    ) -> None:
        super().__init__(p=1.0)
        self.spacing_mm = spacing_mm
        self.fixed_axes = fixed_axes
        self.rotate = rotate
        self.rotate_degrees = rotate_degrees
        self.scale = scale
        self.scale_range = scale_range
        self.elastic = elastic
        self.elastic_mm = elastic_mm

    @property
    def targets(self) -> dict[str, Callable[..., Any]]:
        """What is moved, and how."""
        return {
            "volume": self.apply_to_volume,
            "mask3d": self.apply_to_mask3d,
            "regions": self.apply_to_volume,
        }

    def margin(self, patch: Sequence[int]) -> tuple[int, int, int]:
        """Voxels to read so that no rotation, scaling or displacement looks beyond them.

        The difference to ``patch`` is even.
        """
        spacing = np.array(self.spacing_mm)
        half = (np.array(patch) - 1) / 2 * spacing
        # Beyond a right angle a turn reaches no farther than one below it.
        farthest = np.minimum(np.abs(self._angles((1, 1, 1))), math.pi / 2)
        steps = [np.linspace(-angle, angle, _ANGLES if angle else 1) for angle in farthest]
        turns = [rotation_matrix(angles) for angles in itertools.product(*steps)]
        reach = np.max([np.abs(turn) @ half for turn in turns], axis=0)
        reach = reach / self._magnification(min(1.0, *self.scale_range) if self.scale else 1.0)
        reach = reach + self._free * (self.elastic_mm if self.elastic else 0.0)
        extra = np.ceil(np.round((reach - half) / spacing, 6)).astype(int)
        x, y, z = (int(n + 2 * e) for n, e in zip(patch, extra, strict=True))
        return x, y, z

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw what happens, and where each voxel of the patch comes from."""
        block, patch, around = data["volume"].shape[:3], data["patch"], data["around"]
        wide = tuple(p + 2 * a for p, a in zip(patch, around, strict=True))
        core = tuple(slice(a, a + p) for a, p in zip(around, patch, strict=True))
        rng = self.random_generator
        turns, scales, bends = rng.random(3) < (self.rotate, self.scale, self.elastic)
        if not (turns or scales or bends):
            first = [(b - w) // 2 for b, w in zip(block, wide, strict=True)]
            inner = tuple(slice(f, f + w) for f, w in zip(first, wide, strict=True))
            return {"coordinates": None, "inner": inner, "core": core}
        turn = rotation_matrix(self._angles(rng.uniform(-1, 1, 3))) if turns else np.eye(3)
        low, high = np.log(self.scale_range)
        zoom = self._magnification(math.exp(rng.uniform(low, high)) if scales else 1.0)
        spacing = np.array(self.spacing_mm)
        matrix = (turn / zoom[:, np.newaxis]) * spacing / spacing[:, np.newaxis]
        coordinates = affine_coordinates(matrix, block, wide)
        if bends:
            coordinates += self._displacement(wide)
        return {"coordinates": coordinates, "inner": (), "core": core}

    def apply_to_volume(
        self,
        volume: np.ndarray,
        coordinates: np.ndarray | None,
        inner: Any,
        core: tuple[slice, ...],
        **params: Any,
    ) -> np.ndarray:
        """Deform (X, Y, Z, C) intensities or regions."""
        if coordinates is None:
            return volume[inner][core]
        return sample_linear(volume, coordinates[:, *core])

    def apply_to_mask3d(
        self, mask3d: np.ndarray, coordinates: np.ndarray | None, inner: Any, **params: Any
    ) -> np.ndarray:
        """Deform (X, Y, Z) labels, those around the patch as well."""
        return mask3d[inner] if coordinates is None else sample_nearest(mask3d, coordinates)

    @property
    def _free(self) -> np.ndarray:
        return ~np.array(self.fixed_axes)

    def _angles(self, shares: Sequence[float] | np.ndarray) -> np.ndarray:
        """Radians about each axis; 0 where the rotation would move a fixed axis."""
        largest = math.radians(self.rotate_degrees) if self.rotate else 0.0
        free = self._free
        turnable = [free[(axis + 1) % 3] and free[(axis + 2) % 3] for axis in range(3)]
        return np.array(shares) * largest * turnable

    def _magnification(self, factor: float) -> np.ndarray:
        return np.where(self._free, factor, 1.0)

    def _displacement(self, patch: Sequence[int]) -> np.ndarray:
        """(3, X, Y, Z) float32 voxels of a smooth random field, at most ``elastic_mm`` long."""
        nodes = [min(n, 2 + -(-n // _NODE_VOXELS)) for n in patch]
        coarse = self.random_generator.standard_normal((*nodes, 3), dtype=np.float32)
        field = resample(coarse * self._free, (patch[0], patch[1], patch[2]), 3)
        longest = float(np.sqrt(np.square(field).sum(axis=-1)).max())
        length = self.random_generator.uniform(0, self.elastic_mm) / max(longest, 1e-6)
        return np.moveaxis(field * (length / np.array(self.spacing_mm, np.float32)), -1, 0)


def affine_coordinates(
    matrix: np.ndarray, block: Sequence[int], patch: Sequence[int]
) -> np.ndarray:
    """Where the voxels of a patch lie in a block, under a linear map about the centres of both.

    Parameters
    ----------
    matrix : (3, 3) float ndarray
        Patch voxels to block voxels.
    block, patch : (3,) int

    Returns
    -------
    (3, \\*patch) float32 ndarray
    """
    steps = [np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2) for n in patch]
    out = np.empty((3, *patch), np.float32)
    for axis, row in enumerate(matrix.astype(np.float32)):
        middle = np.float32((block[axis] - 1) / 2)
        plane = (row[1] * steps[1] + middle)[:, np.newaxis] + row[2] * steps[2]
        np.add((row[0] * steps[0])[:, np.newaxis, np.newaxis], plane, out=out[axis])
    return out


class Mirror3D(al.Transform3D):
    """Reverses each of the given axes at even odds.

    Parameters
    ----------
    axes : tuple of int
    """

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__(p=1.0)
        self.axes = axes

    @property
    def targets(self) -> dict[str, Callable[..., Any]]:
        """What is mirrored."""
        return {
            "volume": self.apply_to_volume,
            "mask3d": self.apply_to_volume,
            "regions": self.apply_to_volume,
        }

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the axes."""
        drawn = self.random_generator.random(len(self.axes)) < 0.5
        return {"reversed": tuple(a for a, hit in zip(self.axes, drawn, strict=True) if hit)}

    def apply_to_volume(self, volume: np.ndarray, **params: Any) -> np.ndarray:
        """Reverse the drawn axes."""
        return np.flip(volume, params["reversed"]) if params["reversed"] else volume
