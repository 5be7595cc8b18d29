"""From a dataset's fingerprint to a complete configuration, every choice with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.data.layouts import Dataset
from segpipe.geometry import slice_axis
from segpipe.prepare import CaseGrid

_ANISOTROPIC = 3.0  # spacing ratio from which the coarse axis is treated apart
_FEW_SLICES = 12  # a coarse axis with fewer voxels than this holds no third dimension
_CPU_VOXELS, _GPU_VOXELS = 48**3, 128**3
_WIDEST = 320
_SIDED = re.compile(r"(^|[_\W])(left|right|l|r|lh|rh)([_\W]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """A setting by its dotted name, its value, and why."""

    key: str
    value: object
    reason: str


def make_choices(
    dataset: Dataset, grids: Sequence[CaseGrid], *, gpu: bool, patients: int
) -> list[Choice]:
    """Choose every setting that depends on data or device.

    Parameters
    ----------
    dataset : Dataset
    grids : sequence of CaseGrid
        Of the training cases, at least one.
    gpu : bool
        Whether training will have a GPU.
    patients : int
        Different patients among the training cases.

    Returns
    -------
    list of Choice
        Settings that are not among them keep their defaults.
    """
    spacings = np.array([grid.spacing_mm for grid in grids])
    spacing = _target_spacing(spacings)
    sizes_mm = np.array([grid.shape for grid in grids]) * spacings
    extent = np.maximum(1, np.round(np.median(sizes_mm / spacing, axis=0))).astype(int)
    across = slice_axis(spacing.tolist())
    dimensions = _dimensions(spacing, extent, across)
    budget = _GPU_VOXELS if gpu else _CPU_VOXELS
    keep = [axis for axis in range(3) if dimensions == 3 or axis != across]
    patch, levels = _patch(extent[keep], spacing[keep], budget)
    features = _features(levels, gpu)
    batch = int(np.clip(round(budget / math.prod(patch)), 2, 16)) * (1 if dimensions == 3 else 2)
    normalise, why = _normalisation(dataset.channels)
    mirror, mirror_why = _mirroring(dataset.labels)
    folds = min(5, patients)
    size = " × ".join(f"{n:.0f}" for n in extent)
    place = "GPU" if gpu else "CPU"
    return [
        Choice(
            "prepare.spacing_mm",
            tuple(spacing.tolist()),
            f"median of {len(grids)} training cases"
            + ("; finest tenth along the coarse axis" if _coarse(spacings) is not None else ""),
        ),
        Choice("prepare.normalise", normalise, why),
        Choice(
            "split.folds",
            folds if folds > 1 else 1,
            f"{patients} patients" + ("; too few to validate" if folds < 2 else ""),
        ),
        Choice(
            "model.dimensions",
            dimensions,
            f"median case {size} voxels"
            + ("" if dimensions == 3 else "; too few slices for a third dimension"),
        ),
        Choice(
            "model.features",
            features,
            f"{levels} levels until 4 voxels are left; {features[0]} at the finest for a {place}",
        ),
        Choice("train.patch", patch, f"the case's shape, at most {budget:,} voxels on a {place}"),
        Choice("train.batch", batch, "as many patches as the voxel budget holds"),
        Choice("augment.mirror_axes", mirror, mirror_why),
    ]


def _coarse(spacings: np.ndarray) -> int | None:
    median = np.median(spacings, axis=0)
    axis = int(median.argmax())
    return axis if median[axis] > _ANISOTROPIC * median.min() else None


def _target_spacing(spacings: np.ndarray) -> np.ndarray:
    spacing = np.median(spacings, axis=0)
    axis = _coarse(spacings)
    if axis is not None:
        finest = np.percentile(spacings[:, axis], 10)
        spacing[axis] = max(finest, np.delete(spacing, axis).max())
    return spacing.round(4)  # before anything is decided by it


def _dimensions(spacing: np.ndarray, extent: np.ndarray, across: int) -> int:
    flat = extent[across] < 4
    coarse = spacing[across] > _ANISOTROPIC * spacing.min() and extent[across] < _FEW_SLICES
    return 2 if flat or coarse else 3


def _patch(extent: np.ndarray, spacing: np.ndarray, budget: int) -> tuple[tuple[int, ...], int]:
    """The case's shape, shrunk along its longest axis in mm until it fits the budget."""
    size = extent.astype(float)
    while np.prod(np.maximum(size, 4)) > budget * 1.15:
        longest = int((size * spacing).argmax())
        size[longest] *= 0.95
    levels = 1
    step = np.ones(len(size), dtype=int)
    while levels < 6:
        fine = spacing * step < 2 * (spacing * step).min()
        halved = np.where(fine & (size / step >= 8), 2, 1)
        if (halved == 1).all():
            break
        step *= halved
        levels += 1
    patch = np.maximum(step, np.round(size / step).astype(int) * step)
    return tuple(int(p) for p in patch), max(levels, 2)


def _features(levels: int, gpu: bool) -> tuple[int, ...]:
    first = 32 if gpu else 16
    return tuple(min(_WIDEST, first * 2**level) for level in range(levels))


def _normalisation(channels: Sequence[str]) -> tuple[str, str]:
    if all(name.strip().lower() in ("ct", "ct image") for name in channels):
        return "ct", "every channel is CT, whose units mean the same in each scan"
    return "zscore", "intensities have no unit that holds between scans"


def _mirroring(labels: dict[str, int]) -> tuple[tuple[str, ...], str]:
    sided = [name for name in labels if _SIDED.search(name)]
    if sided:
        return ("A", "S"), f"not left-right: {', '.join(sided)} tell the sides apart"
    return ("R", "A", "S"), "no label tells left from right"
