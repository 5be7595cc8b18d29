"""From a dataset's fingerprint to a complete configuration, every choice with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.data.layouts import Dataset
from segpipe.geometry import AXES, slice_axis
from segpipe.model.levels import halving
from segpipe.prepare import CaseGrid

_ANISOTROPIC = 3.0  # spacing ratio from which the coarse axis is treated apart
_FLAT = 4  # voxels; an axis with fewer holds no third dimension, however fine
_FEW_SLICES = 12  # a coarse axis with fewer voxels than this holds no third dimension
_MINORITY = 0.2  # share of the cases from which another kind of grid is not passed over
_CPU_PATCH, _GPU_PATCH = 56**3, 128**3  # voxels
_PATCHES = 2  # of that size in a step
_SMALL_CASE = 100_000  # voxels up to which a CPU has time for twice the features
_WIDEST = 320
_BYTES = 60  # of a training step, per voxel and feature of the finest level, at 16 bits
_USABLE = 0.6  # share of the memory that a training step may take
_DIRECTIONS = {
    "R": ("left", "right", "l", "r", "lh", "rh"),
    "A": ("anterior", "posterior", "ant", "post"),
    "S": ("superior", "inferior", "sup", "inf", "upper", "lower"),
}
_OPPOSITES = {"R": "left from right", "A": "front from back", "S": "above from below"}


@dataclass(frozen=True)
class Machine:
    """What training will run on.

    Parameters
    ----------
    gpu : bool
    cores : int
    memory_mb : float
        Of the machine.
    gpu_memory_mb : float or None
        None: no GPU, or its memory is not known.
    precision : str
        What ``train.precision: auto`` gives here.
    """

    gpu: bool
    cores: int
    memory_mb: float
    gpu_memory_mb: float | None
    precision: str

    @property
    def name(self) -> str:
        """GPU, or CPU and its cores."""
        return "GPU" if self.gpu else f"CPU of {self.cores} cores"

    def largest_patch(self, features: int) -> tuple[int, str, bool]:
        """Voxels that a patch may have at this many features, why, and whether memory says so."""
        most = _GPU_PATCH if self.gpu else _CPU_PATCH
        memory = self.gpu_memory_mb if self.gpu else self.memory_mb
        if memory is not None:
            wide = 2 if self.precision == "float32" else 1
            fitting = int(_USABLE * memory * 1e6 / (_BYTES * wide * features * _PATCHES))
            if fitting < most:
                reason = f"of which two fit into {memory / 1000:.1f} GB of memory"
                return fitting, reason, True
        return most, f"as a {self.name} computes in reasonable time", False


@dataclass(frozen=True)
class Choice:
    """A setting by its dotted name, its value, and why."""

    key: str
    value: object
    reason: str


def make_choices(
    dataset: Dataset,
    grids: Sequence[CaseGrid],
    *,
    machine: Machine,
    patients: int,
    asked: Mapping[str, Any],
) -> list[Choice]:
    """Choose every setting that depends on data or device, around those that were asked for.

    Parameters
    ----------
    dataset : Dataset
    grids : sequence of CaseGrid
        Of the training cases, at least one.
    machine : Machine
        Where training will run.
    patients : int
        Different patients among the training cases.
    asked : mapping of str to value
        Settings by their dotted names, each valid by itself.

    Returns
    -------
    list of Choice
        All that were asked for, as they are; settings that are not among them keep their defaults.
    """
    spacings = np.array([grid.spacing_mm for grid in grids])
    spacing, why_spacing = _target_spacing(spacings)
    if asked.get("prepare.spacing_mm"):
        spacing = np.array(asked["prepare.spacing_mm"], float)
    sizes_mm = np.array([grid.shape for grid in grids]) * spacings
    extent = np.maximum(1, np.round(np.median(sizes_mm / spacing, axis=0))).astype(int)
    normalise, why_normalise = _normalisation(dataset.channels)
    mirror, why_mirror = _mirroring(dataset.labels)
    choices = [
        Choice("prepare.spacing_mm", tuple(spacing.tolist()), why_spacing),
        Choice("prepare.normalise", normalise, why_normalise),
        _folds(patients),
        *_network(spacing, extent, machine, asked),
        Choice("augment.mirror_axes", mirror, why_mirror),
        *_device(extent, len(grids), len(dataset.channels), machine, asked),
    ]
    notes = {
        "train.budget": "; takes the place of epochs",
        "train.steps": "; takes the place of epochs",
        "train.device": f"; planned for a {machine.name}",
    }
    stand = [Choice(key, value, f"as asked{notes.get(key, '')}") for key, value in asked.items()]
    return [choice for choice in choices if choice.key not in asked] + stand


def _folds(patients: int) -> Choice:
    few = "; too few to validate" if patients < 2 else ""
    return Choice("split.folds", max(1, min(5, patients)), f"{patients} patients{few}")


def _network(
    spacing: np.ndarray, extent: np.ndarray, machine: Machine, asked: Mapping[str, Any]
) -> list[Choice]:
    """Dimensions, features, patch and batch."""
    across = _across(spacing, extent, asked.get("model.slice_axis"))
    given = asked.get("train.patch")
    dimensions = len(given) if given else asked.get("model.dimensions")
    dimensions = dimensions or _dimensions(spacing, extent, across)
    keep = [axis for axis in range(3) if dimensions == 3 or axis != across]
    whole = int(math.prod(extent[keep]))
    first = 32 if machine.gpu or whole <= _SMALL_CASE else 16
    first = asked.get("model.features", [first])[0]
    most, why_most, by_memory = machine.largest_patch(first)
    if given:
        patch = tuple(given)
        levels = max(2, _levels(np.array(given), spacing[keep], whole=True)[0])
    else:
        patch, levels = _patch(extent[keep], spacing[keep], most)
    features = tuple(min(_WIDEST, first * 2**level) for level in range(levels))
    held = _PATCHES * most
    twice = 2 if dimensions == 2 and not by_memory else 1
    batch = twice * int(np.clip(round(held / math.prod(patch)), 2, 16))
    size = " × ".join(f"{n:.0f}" for n in extent)
    flat = "" if dimensions == 3 else "; too few slices for a third dimension"
    seen = (
        f"as train.patch has {dimensions} numbers" if given else f"median case {size} voxels{flat}"
    )
    slices = f"{extent[across]} voxels across the slices, {spacing[across]:.3g} mm apart"
    kind = "small cases" if first == 32 and not machine.gpu else f"a {machine.name}"
    part = "the whole case" if whole <= math.prod(patch) else "the case's shape"
    return [
        Choice("model.dimensions", dimensions, seen),
        *([] if dimensions == 3 else [Choice("model.slice_axis", AXES[across], slices)]),
        Choice(
            "model.features",
            features,
            f"{levels} levels until 4 voxels are left; {first} at the finest for {kind}",
        ),
        Choice("train.patch", patch, f"{part}, at most {most:,} voxels, {why_most}"),
        Choice("train.batch", batch, f"{batch * math.prod(patch):,} voxels a step"),
    ]


def _device(
    extent: np.ndarray, cases: int, channels: int, machine: Machine, asked: Mapping[str, Any]
) -> list[Choice]:
    """Length, loading, memory, precision: what the machine decides."""
    where = "a GPU" if machine.gpu else "this CPU"
    case_mb = math.prod(extent.tolist()) * (4 * channels + 2) / 1e6
    needed = case_mb * cases
    held = min(math.ceil(1.2 * needed / 100) * 100, int(machine.memory_mb / 2))
    fitting = max(1, int(machine.memory_mb / 2 / max(8 * case_mb, 1)))
    epochs, steps, validate = (100, 250, 5) if machine.gpu else (20, 50, 0)
    total = asked.get("train.epochs", epochs) * asked.get("train.steps_per_epoch", steps)
    return [
        Choice("prepare.workers", min(machine.cores, 8, fitting), f"{machine.cores} cores"),
        Choice(
            "train.epochs",
            epochs,
            f"{total:,} steps, for {where}; train.budget gives a time instead",
        ),
        Choice("train.steps_per_epoch", steps, "a checkpoint after each epoch"),
        Choice(
            "train.validate_every",
            validate,
            "epochs between validations"
            if validate
            else "only after the last epoch: on a CPU the time goes into training",
        ),
        Choice(
            "train.workers",
            max(1, min(4, machine.cores // 2)),
            f"half of {machine.cores} cores load, as far as that helps",
        ),
        Choice("train.memory_mb", held, f"{cases} prepared cases take about {needed:,.0f} MB"),
        Choice("train.precision", "auto", f"{machine.precision} on {where}"),
        Choice("train.device", "auto", f"planned for a {machine.name}"),
    ]


def _target_spacing(spacings: np.ndarray) -> tuple[np.ndarray, str]:
    """Spacing that fits most of the cases, or the finer of two kinds of them, and why."""
    thick = spacings.max(axis=1) > _ANISOTROPIC * spacings.min(axis=1)
    both = 0 < thick.sum() < len(thick)
    coarsest = spacings[thick].max(axis=1)
    fine = np.median(spacings[~thick], axis=0).round(4) if both else spacings[0]
    two_kinds = both and np.median(coarsest) >= 2 * fine.max()
    if two_kinds and _MINORITY <= thick.mean() <= 1 - _MINORITY:
        return fine, (
            f"{thick.sum()} of {len(thick)} cases have slices of {_range(coarsest)} mm, the others "
            f"{' x '.join(f'{s:.3g}' for s in fine)} mm: no median fits both, so the finer"
        )
    spacing = np.median(spacings, axis=0)
    reason = f"median of {len(spacings)} training cases"
    axis = int(spacing.argmax())
    if spacing[axis] > _ANISOTROPIC * spacing.min():
        finest = np.percentile(spacings[thick if two_kinds else slice(None), axis], 10)
        spacing[axis] = max(finest, np.delete(spacing, axis).max())
        reason += "; finest tenth along the coarse axis"
    return spacing.round(4), reason  # rounded before anything is decided by it


def _range(values: np.ndarray) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


def _across(spacing: np.ndarray, extent: np.ndarray, asked: str | None) -> int:
    """The axis across the slices, if they are to be slices: one of few voxels, or the coarsest."""
    if asked is not None:
        return AXES.index(asked)
    flat = extent < _FLAT
    if flat.any():
        spacing = np.where(flat, spacing, 0.0)
    return slice_axis(spacing.tolist())


def _dimensions(spacing: np.ndarray, extent: np.ndarray, across: int) -> int:
    flat = extent[across] < _FLAT
    coarse = spacing[across] > _ANISOTROPIC * spacing.min() and extent[across] < _FEW_SLICES
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
    while levels < 6:
        even = (size % (2 * step) == 0) | (not whole)
        stride = halving(size / step, spacing * step, even)
        if (stride == 1).all():
            break
        step *= stride
        levels += 1
    return levels, step


def _normalisation(channels: Sequence[str]) -> tuple[str, str]:
    if all(name.strip().lower() in ("ct", "ct image") for name in channels):
        return "ct", "every channel is CT, whose units mean the same in each scan"
    return "zscore", "intensities have no unit that holds between scans"


def _mirroring(labels: dict[str, int]) -> tuple[tuple[str, ...], str]:
    """Axes along which no label has a direction, and why."""
    edges = r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z]{2})(?=\d)"  # not in L1
    kept, reasons = [], []
    for axis, words in _DIRECTIONS.items():
        pattern = re.compile(rf"(^|[_\W])({'|'.join(words)})([_\W]|$)", re.IGNORECASE)
        directed = [name for name in labels if pattern.search(re.sub(edges, "_", name))]
        if directed:
            reasons.append(f"{', '.join(directed)} tell {_OPPOSITES[axis]}")
        else:
            kept.append(axis)
    return tuple(kept), f"not where {'; '.join(reasons)}" if reasons else "no label has a direction"
