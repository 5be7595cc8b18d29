"""What registration looks at: a scan without empty slices, shrunk, and its own brain in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import ndimage

from segpipe.anatomy.template import mni152_map, sample_at, template_lattice
from segpipe.volume import Volume

REACH_MM = 12.0  # how far the scan's brain may lie outside the template's, roughly registered
CORE_MM = 8.0  # voxels this deep in the template's brain are taken for brain
DARKEST, BRIGHTEST = 0.55, 1.7  # of brain, relative to the median of the core
_BRIDGE_MM, _CLOSE_MM = 2.5, 6.0
_EMPTY, _FULL = 0.05, 0.2
_EVERY = 10  # voxel of the core is looked at


def acquired(scan: Volume) -> Volume:
    """Cut off slices at the ends that were not acquired, and what is below 0.

    An empty slice beside one full of signal holds no data: it must not count as dark. Empty slices
    around a stripped brain are dark, and stay.

    Parameters
    ----------
    scan : Volume
        (X, Y, Z) with at least one positive voxel.
    """
    array = np.maximum(scan.array, 0).astype(np.float32, copy=False)
    bright = array > _EMPTY * np.percentile(array[array > 0], 99)
    kept = []
    for axis in range(3):
        area = bright.sum(axis=tuple(a for a in range(3) if a != axis))
        full = np.flatnonzero(area)
        first, last = int(full[0]), int(full[-1])
        abrupt = [area[i] > _FULL * area.max() for i in (first, last)]
        kept.append(slice(first if abrupt[0] else 0, last + 1 if abrupt[1] else len(area)))
    return _part(scan.with_array(array), kept)


def shrink(volume: Volume, step_mm: float) -> Volume:
    """Means over blocks of whole voxels that are at most ``step_mm`` long; thick axes stay.

    Examples
    --------
    >>> line = Volume(np.arange(4.0).reshape(4, 1, 1), np.eye(4))
    >>> half = shrink(line, 2.0)
    >>> half.array.ravel().tolist(), half.affine[0].tolist()
    ([0.5, 2.5], [2.0, 0.0, 0.0, 0.5])
    """
    size = np.array(volume.shape)
    block = np.clip(np.floor(step_mm / np.array(volume.spacing_mm) + 1e-6).astype(int), 1, size)
    count = size // block
    whole = volume.array[tuple(slice(0, n * b) for n, b in zip(count, block, strict=True))]
    pairs = [n for pair in zip(count, block, strict=True) for n in pair]
    means = whole.reshape(pairs).mean(axis=(1, 3, 5), dtype=np.float32)
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, :3] * block
    affine[:3, 3] += volume.affine[:3, :3] @ ((block - 1) / 2)
    return Volume(means, affine)


def brain_level(scan: Volume, affine: np.ndarray) -> float:
    """Median of the scan deep inside the registered template's brain; nan where it sees none."""
    depth = _depth_in_template()
    deep = np.argwhere(depth.array > CORE_MM)[::_EVERY]
    step = np.linalg.inv(scan.affine) @ affine @ depth.affine
    voxels = np.rint(deep @ step[:3, :3].T + step[:3, 3]).astype(int)
    inside = ((voxels >= 0) & (voxels < scan.shape)).all(axis=1)
    values = scan.array[tuple(voxels[inside].T)]
    values = values[values > 0]
    return float(np.median(values)) if values.size else float("nan")


def own_brain(scan: Volume, affine: np.ndarray) -> np.ndarray:
    """The scan's own brain, near a template that is roughly registered.

    Voxels as bright as brain (0.55 to 1.7 times the median of the core) within 12 mm of the
    template's brain; what hangs on by a bridge thinner than 5 mm is cut off; the part that holds
    most of the core is closed and filled. On a stripped scan it is the brain that is left.

    Parameters
    ----------
    scan : Volume
        (X, Y, Z) float32, at about 2 mm.
    affine : (4, 4) float ndarray
        World coordinates of the template to those of the scan, in mm.

    Returns
    -------
    (X, Y, Z) bool ndarray
        Empty where nothing is found.
    """
    depth = _depth_in_template()
    depth_mm = sample_at(Volume(depth.array, affine @ depth.affine), scan, outside=-np.inf)
    level = brain_level(scan, affine)
    nothing = np.zeros(scan.shape, bool)
    if not level > 0:
        return nothing
    spacing = scan.spacing_mm
    tissue = (scan.array > DARKEST * level) & (scan.array < BRIGHTEST * level)
    tissue &= depth_mm > -REACH_MM
    loose = _depth(tissue, spacing) > _BRIDGE_MM
    labels, count = ndimage.label(loose)
    held = np.bincount(labels[depth_mm > CORE_MM], minlength=count + 1)
    held[0] = 0
    if not held.any():
        return nothing
    brain = _within(labels == held.argmax(), spacing, _BRIDGE_MM)
    closed = ~_within(~_within(brain, spacing, _CLOSE_MM), spacing, _CLOSE_MM)
    return ndimage.binary_fill_holes(closed)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks in [0, 1]; nan when both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else float("nan")


@lru_cache(maxsize=1)
def _depth_in_template() -> Volume:
    """Distance in mm to the border of the template's brain, negative outside, on 2 mm."""
    lattice = template_lattice(2.0, 2 * REACH_MM)
    brain = sample_at(mni152_map("brain"), lattice) > 0.5
    inside, outside = (ndimage.distance_transform_edt(m, sampling=2.0) for m in (brain, ~brain))
    return lattice.with_array((inside - outside).astype(np.float32))


def _depth(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Distance to the outside in mm; what lies beyond the array is outside."""
    padded = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)
    return padded[1:-1, 1:-1, 1:-1]


def _within(mask: np.ndarray, spacing_mm: Sequence[float], distance_mm: float) -> np.ndarray:
    if not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask, sampling=spacing_mm) <= distance_mm


def _part(volume: Volume, kept: Sequence[slice]) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ np.array([part.start for part in kept])
    return Volume(volume.array[tuple(kept)], affine)
