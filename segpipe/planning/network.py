"""The network and its patches: dimensions, levels, features, patch and batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from segpipe.geometry import AXES, THICK_SLICES, slice_axis
from segpipe.model.levels import halving
from segpipe.planning.machine import PATCHES, Choice, Machine

FLAT = 4
"""Voxels: an axis with fewer holds no third dimension, however fine."""

_FEW_SLICES = 12  # thick slices; fewer than these hold no third dimension
_SMALL_CASE = 100_000  # voxels up to which a CPU has time for twice the features
_WIDEST = 320
_MOST_LEVELS = 6


def network_choices(
    spacing: np.ndarray,
    extent: np.ndarray,
    labels: int,
    machine: Machine,
    asked: Mapping[str, Any],
) -> list[Choice]:
    """Dimensions, features, patch and batch.

    Parameters
    ----------
    spacing : (3,) float ndarray
        Of the prepared grid, in mm.
    extent : (3,) int ndarray
        Voxels of the median case on it.
    labels : int
    machine : Machine
    asked : mapping of str to value
        Settings by their dotted names, which the others are chosen around.

    Returns
    -------
    list of Choice
    """
    across = _across(spacing, extent, asked.get("model.slice_axis"))
    given = asked.get("train.patch")
    dimensions = len(given) if given else asked.get("model.dimensions")
    dimensions = dimensions or _dimensions(spacing, extent, across)
    keep = [axis for axis in range(3) if dimensions == 3 or axis != across]
    whole = int(math.prod(extent[keep]))
    first = 32 if machine.gpu or whole <= _SMALL_CASE else 16
    first = asked.get("model.features", [first])[0]
    most, why_most, by_memory = machine.largest_patch(first, labels)
    if given:
        patch = tuple(given)
        levels = max(2, _levels(np.array(given), spacing[keep], whole=True)[0])
    else:
        patch, levels = _patch(extent[keep], spacing[keep], most)
    why_levels = _why_levels(np.array(patch), spacing[keep], levels, fixed=bool(given))
    features = tuple(min(_WIDEST, first * 2**level) for level in range(levels))
    held = PATCHES * most
    twice = 2 if dimensions == 2 and not by_memory else 1
    batch = twice * int(np.clip(round(held / math.prod(patch)), 2, 16))
    size = " × ".join(f"{n:.0f}" for n in extent)
    flat = "" if dimensions == 3 else "; too few slices for a third dimension"
    seen = (
        f"as train.patch has {dimensions} numbers" if given else f"median case {size} voxels{flat}"
    )
    slices = f"across the slices: {extent[across]}, {spacing[across]:.3g} mm apart"
    kind = "small cases" if first == 32 and not machine.gpu else f"a {machine.name}"
    part = "the whole case" if whole <= math.prod(patch) else "the case's shape"
    return [
        Choice("model.dimensions", dimensions, seen),
        *([] if dimensions == 3 else [Choice("model.slice_axis", AXES[across], slices)]),
        Choice(
            "model.features",
            features,
            f"{levels} levels, {why_levels}; {first} at the finest for {kind}",
        ),
        Choice("train.patch", patch, f"{part}, at most {most:,} voxels, {why_most}"),
        Choice("train.batch", batch, f"{batch * math.prod(patch):,} voxels a step"),
    ]


def _why_levels(size: np.ndarray, spacing: np.ndarray, levels: int, *, fixed: bool) -> str:
    """What ended the halving of a patch."""
    reached, step = _levels(size, spacing, whole=fixed)
    if reached >= _MOST_LEVELS:
        return "the most"
    left = size / step
    if fixed and halving(left, spacing * step).max() > 1:
        shape = " × ".join(f"{n:g}" for n in left)
        return f"as {shape} voxels cannot be halved: a train.patch of multiples of 32 has more"
    return "until 4 voxels are left"


def _across(spacing: np.ndarray, extent: np.ndarray, asked: str | None) -> int:
    """The axis across the slices, if they are to be slices: one of few voxels, or the coarsest."""
    if asked is not None:
        return AXES.index(asked)
    flat = extent < FLAT
    if flat.any():
        spacing = np.where(flat, spacing, 0.0)
    return slice_axis(spacing.tolist())


def _dimensions(spacing: np.ndarray, extent: np.ndarray, across: int) -> int:
    flat = extent[across] < FLAT
    coarse = spacing[across] > THICK_SLICES * spacing.min() and extent[across] < _FEW_SLICES
    return 2 if flat or coarse else 3


def _patch(extent: np.ndarray, spacing: np.ndarray, most: int) -> tuple[tuple[int, ...], int]:
    """The whole case; or its shape, shrunk along the longest axis in mm to few enough voxels."""
    size = extent.astype(float)
    while np.prod(np.maximum(size, 4)) > most * 1.15:
        longest = int((size * spacing).argmax())
        size[longest] *= 0.95
    levels, step = _levels(size, spacing)
    patch = np.ceil(extent / step).astype(int) * step
    if np.prod(patch) > most * 1.15:
        patch = np.maximum(step, np.round(size / step).astype(int) * step)
    while np.prod(patch) > most * 1.15 and (patch > 4 * step).any():
        longest = int(np.where(patch > 4 * step, patch * spacing, 0).argmax())
        patch[longest] -= step[longest]
    return tuple(int(p) for p in patch), max(levels, 2)


def _levels(size: np.ndarray, spacing: np.ndarray, *, whole: bool = False) -> tuple[int, Any]:
    """Levels until 4 voxels are left, and the voxels that one of the last stands for.

    ``whole``: the size is a patch that stays as it is, so that only even numbers are halved.
    """
    levels, step = 1, np.ones(len(size), dtype=int)
    while levels < _MOST_LEVELS:
        even = (size % (2 * step) == 0) | (not whole)
        stride = halving(size / step, spacing * step, even)
        if (stride == 1).all():
            break
        step *= stride
        levels += 1
    return levels, step
