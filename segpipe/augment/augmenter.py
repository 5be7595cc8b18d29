"""The augmentation of one patch: an albumentations pipeline fed from one random generator."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

import albumentations as al
import numpy as np

from segpipe.augment.intensity import (
    BiasField3D,
    Blur3D,
    Brightness3D,
    Contrast3D,
    Gamma3D,
    LowResolution3D,
    Noise3D,
)
from segpipe.augment.spatial import Deform3D, Mirror3D
from segpipe.config import AugmentConfig
from segpipe.errors import GeometryError
from segpipe.geometry import AXES, thick_axes

_THIN = 3.0  # times that the longest side of a patch is longer than one along which nothing turns


class Augmenter:
    """Augments patches. Several threads may call it at once, each with its own generator.

    Parameters
    ----------
    config : AugmentConfig
    axes : (D,) int
        Axes of the prepared grid (0 R, 1 A, 2 S) that a patch has, in order.
    patch : (D,) int
        Voxels along them. Nothing is turned or shifted along thick slices, nor along an axis on
        which the patch is less than a third as long as on its longest: it would leave the case.
    spacing_mm : (3,) float
        Of the prepared grid along R, A, S.
    """

    def __init__(
        self,
        config: AugmentConfig,
        axes: tuple[int, ...],
        patch: Sequence[int],
        spacing_mm: Sequence[float],
    ) -> None:
        self.config = config
        self.axes = axes
        spacing = [float(spacing_mm[axis]) for axis in axes]
        lengths = [n * step for n, step in zip(patch, spacing, strict=True)]
        thin = [length * _THIN < max(lengths) for length in lengths]
        fixed = [a or b for a, b in zip(thick_axes(spacing), thin, strict=True)]
        # A slice is a volume of one voxel's depth, across which nothing moves.
        missing = 3 - len(axes)
        x, y, z = (*spacing, *[min(spacing)] * missing)
        self.spacing_mm = (x, y, z)
        i, j, k = (*fixed, *[True] * missing)
        self.fixed_axes = (i, j, k)
        self._deform = self._make_deform()
        self._of_thread = threading.local()
        self._margins: dict[tuple[int, ...], tuple[int, ...]] = {}

    def margin(self, patch: Sequence[int]) -> tuple[int, ...]:
        """Voxels to read around a patch so that no transform looks beyond them.

        Parameters
        ----------
        patch : (D,) int
            Voxels wanted.

        Returns
        -------
        (D,) int
            At least ``patch``; the difference is even, so the patch lies in the middle.
        """
        wanted = tuple(patch)
        if not self.config.enabled:
            return wanted
        if wanted not in self._margins:
            solid = self._deform.margin((*wanted, *[1] * (3 - len(wanted))))
            self._margins[wanted] = solid[: len(wanted)]
        return self._margins[wanted]

    def __call__(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        regions: np.ndarray,
        rng: np.random.Generator,
        patch: Sequence[int] | None = None,
        around: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Augment one patch.

        Parameters
        ----------
        image : (\\*block, C) float32 ndarray
            In [0, 1].
        labels : block uint8 ndarray
        regions : (\\*block, R) uint8 ndarray
            R may be 0.
        rng : numpy.random.Generator
            The only source of randomness: equal state and arrays, equal result.
        patch : (D,) int, optional
            Voxels to return, from the middle of the block; default: all of the block.
        around : (D,) int, optional
            Voxels of labels to return beyond the patch, on each side of every axis; default: 0.

        Returns
        -------
        image, labels, regions : ndarray
            Of the patch's size, the labels with what lies ``around``, and of the same types; the
            image stays in [0, 1].

        Raises
        ------
        GeometryError
            If the arrays differ in shape, or the patch with what lies around it is larger than
            they are.
        """
        block = labels.shape
        wanted = tuple(block if patch is None else patch)
        beyond = tuple([0] * len(wanted) if around is None else around)
        labelled = tuple(n + 2 * b for n, b in zip(wanted, beyond, strict=True))
        self._check(image, labels, regions, labelled)
        missing = 3 - len(self.axes)
        solid = (*block, *[1] * missing)
        data = {
            "volume": image.reshape(*solid, image.shape[-1]),
            "mask3d": labels.reshape(solid),
            "patch": (*wanted, *[1] * missing),
            "around": (*beyond, *[0] * missing),
        }
        if regions.shape[-1]:
            data["regions"] = regions.reshape(*solid, regions.shape[-1])
        compose = self._compose()
        compose.set_random_state(rng, random.Random(int(rng.integers(1 << 63))))
        data = compose(**data)
        augmented = np.clip(data["volume"], 0.0, 1.0).reshape(*wanted, image.shape[-1])
        placed = data.get("regions", np.zeros((*wanted, 0), regions.dtype))
        return (
            augmented.astype(np.float32, copy=False),
            data["mask3d"].reshape(labelled),
            placed.reshape(*wanted, regions.shape[-1]),
        )

    def _check(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        regions: np.ndarray,
        wanted: tuple[int, ...],
    ) -> None:
        shapes = {image.shape[:-1], labels.shape, regions.shape[:-1]}
        fits = len(shapes) == 1 and len(labels.shape) == len(wanted) == len(self.axes)
        if not fits or any(p > b for p, b in zip(wanted, labels.shape, strict=True)):
            raise GeometryError(
                f"augmentation: expected image, labels and regions of one shape in "
                f"{len(self.axes)} axes, none smaller than the patch {wanted}; received "
                f"{image.shape}, {labels.shape}, {regions.shape}"
            )

    def _compose(self) -> al.Compose:
        """The pipeline of this thread: albumentations keeps the state of a call in transforms."""
        if not hasattr(self._of_thread, "compose"):
            self._of_thread.compose = al.Compose(self._make_transforms())
        return self._of_thread.compose

    def _make_deform(self) -> Deform3D:
        config = self.config
        on = float(config.enabled)
        return Deform3D(
            spacing_mm=self.spacing_mm,
            fixed_axes=self.fixed_axes,
            rotate=config.rotate * on,
            rotate_degrees=config.rotate_degrees,
            scale=config.scale * on,
            scale_range=config.scale_range,
            elastic=config.elastic * on,
            elastic_mm=config.elastic_mm,
        )

    def _make_transforms(self) -> list[al.BasicTransform]:
        config = self.config
        if not config.enabled:
            return [self._make_deform()]
        mirrored = tuple(
            position for position, axis in enumerate(self.axes) if AXES[axis] in config.mirror_axes
        )
        return [
            self._make_deform(),
            BiasField3D(p=config.bias_field),
            Contrast3D(p=config.contrast),
            Brightness3D(p=config.brightness),
            Gamma3D(p=config.gamma),
            Blur3D(self.spacing_mm, p=config.blur),
            LowResolution3D(self.fixed_axes, p=config.low_resolution),
            Noise3D(p=config.noise),
            Mirror3D(mirrored),
        ]


def build(
    config: AugmentConfig,
    patch: Sequence[int],
    spacing_mm: Sequence[float],
    across: int | None = None,
) -> Augmenter:
    """Make the augmenter of a configuration.

    Parameters
    ----------
    config : AugmentConfig
    patch : (3,) or (2,) int
        Voxels of a patch or of a slice.
    spacing_mm : (3,) float
        Of the prepared grid along R, A, S.
    across : int, optional
        Slices: the axis across them.
    """
    axes = tuple(axis for axis in range(3) if axis != across)
    return Augmenter(config, axes, patch, spacing_mm)
