"""Every setting that depends on data or device."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.data.layouts import Dataset
from segpipe.geometry import THICK_SLICES
from segpipe.planning.machine import Choice, Machine
from segpipe.planning.network import FLAT, network_choices
from segpipe.prepare import CaseGrid

_VALIDATE_EVERY = 5  # epochs, where there are validations at all
_MINORITY = 0.2  # share of the cases from which another kind of grid is not passed over
_DIRECTIONS = {
    "R": ("left", "right", "l", "r", "lh", "rh", "lt", "rt"),
    "A": ("anterior", "posterior", "ant", "post", "front", "back", "ventral", "dorsal"),
    "S": ("superior", "inferior", "sup", "inf", "upper", "lower", "cranial", "caudal"),
}
_OPPOSITES = {"R": "left from right", "A": "front from back", "S": "above from below"}


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
    stored = np.median([grid.shape for grid in grids], axis=0).astype(int)
    extent = np.where(stored < FLAT, np.minimum(extent, stored), extent)  # a slice is no volume
    normalise, why_normalise = _normalisation(dataset.channels)
    mirror, why_mirror = _mirroring(dataset.labels)
    choices = [
        Choice("prepare.spacing_mm", tuple(spacing.tolist()), why_spacing),
        Choice("prepare.normalise", normalise, why_normalise),
        _folds(patients),
        *network_choices(spacing, extent, len(dataset.labels), machine, asked),
        Choice("augment.mirror_axes", mirror, why_mirror),
        *_device(extent, stored, len(grids), len(dataset.channels), machine, asked),
    ]
    notes = {
        "train.budget": "; takes the place of epochs",
        "train.steps": "; takes the place of epochs",
        "train.device": f"; planned for a {machine.name}",
    }
    stand = [Choice(key, value, f"as asked{notes.get(key, '')}") for key, value in asked.items()]
    return [choice for choice in choices if choice.key not in asked] + stand


def _folds(patients: int) -> Choice:
    whose = f"{patients} patients" if patients > 1 else "1 patient; too few to validate"
    return Choice("split.folds", max(1, min(5, patients)), whose)


def _device(
    extent: np.ndarray,
    stored: np.ndarray,
    cases: int,
    channels: int,
    machine: Machine,
    asked: Mapping[str, Any],
) -> list[Choice]:
    """Length, loading, memory, precision: what the machine decides."""
    where = "a GPU" if machine.gpu else "this CPU"
    case_mb, read_mb = (
        math.prod(shape.tolist()) * (4 * channels + 2) / 1e6 for shape in (extent, stored)
    )
    needed = case_mb * cases
    held = min(math.ceil(1.2 * needed / 100) * 100, int(machine.memory_mb / 2))
    largest_mb = max(case_mb, read_mb)
    fitting = max(1, int(machine.memory_mb / 2 / max(8 * largest_mb, 1)))
    epochs, steps, validate = (100, 250, _VALIDATE_EVERY) if machine.gpu else (20, 50, 0)
    idle = {"keep": "last", "patience": 0}  # any other value needs validations to choose by
    chosen_by = [name for name, off in idle.items() if asked.get(f"train.{name}", off) != off]
    validate = validate or (_VALIDATE_EVERY if chosen_by else 0)
    total = asked.get("train.epochs", epochs) * asked.get("train.steps_per_epoch", steps)
    length = f"{total:,} steps, for {where}; train.budget gives a time instead"
    for name in ("train.budget", "train.steps"):
        length = f"{name} decides" if asked.get(name) else length
    return [
        _processes(machine, fitting, largest_mb),
        Choice("train.epochs", epochs, length),
        Choice("train.steps_per_epoch", steps, "a checkpoint after each epoch"),
        Choice(
            "train.validate_every",
            validate,
            "epochs between validations"
            + (f", for train.{' and train.'.join(chosen_by)}" if chosen_by else "")
            if validate
            else "only after the last epoch: on a CPU the time goes into training",
        ),
        Choice(
            "train.workers",
            max(1, min(4, machine.cores // 2)),
            f"half of {machine.cores} cores load, as far as that helps",
        ),
        Choice(
            "train.memory_mb",
            held,
            f"{cases} prepared cases take about {needed:,.0f} MB"
            + (f"; half of {machine.memory_mb:,.0f} MB" if held < needed else ""),
        ),
        Choice("train.precision", "auto", f"{machine.precision} on {where}"),
        Choice("train.device", "auto", f"planned for a {machine.name}"),
    ]


def _processes(machine: Machine, fitting: int, case_mb: float) -> Choice:
    if fitting < min(machine.cores, 8):
        return Choice(
            "prepare.workers", fitting, f"a case of {case_mb:,.0f} MB takes eight times as much"
        )
    return Choice("prepare.workers", min(machine.cores, 8), f"{machine.cores} cores")


def _target_spacing(spacings: np.ndarray) -> tuple[np.ndarray, str]:
    """Spacing that fits most of the cases, or the finer of several kinds of them, and why."""
    thick = spacings.max(axis=1) > THICK_SLICES * spacings.min(axis=1)
    both = 0 < thick.sum() < len(thick)
    coarsest = spacings[thick].max(axis=1)
    fine = _rounded(np.median(spacings[~thick], axis=0)) if both else spacings[0]
    two_kinds = both and np.median(coarsest) >= 2 * fine.max()
    if two_kinds and _MINORITY <= thick.mean() <= 1 - _MINORITY:
        return fine, (
            f"{thick.sum()} of {len(thick)} cases have slices of {_range(coarsest)} mm, the others "
            f"{' x '.join(f'{s:.3g}' for s in fine)} mm: no median fits both, so the finer"
        )
    across = spacings.argmax(axis=1)
    kinds = [axis for axis in range(3) if (thick & (across == axis)).mean() >= _MINORITY]
    if len(kinds) > 1:
        own = [np.median(spacings[~thick | (across != axis), axis]) for axis in range(3)]
        named = " and ".join("RAS"[axis] for axis in kinds)
        return _rounded(own), (
            f"slices are thick along {named} in different cases: along each axis that of the others"
        )
    spacing = np.median(spacings, axis=0)
    reason = f"median of {len(spacings)} training cases"
    axis = int(spacing.argmax())
    if spacing[axis] > THICK_SLICES * spacing.min():
        finest = np.percentile(spacings[thick if two_kinds else slice(None), axis], 10)
        spacing[axis] = max(finest, np.delete(spacing, axis).max())
        reason += "; finest tenth along the coarse axis"
    return _rounded(spacing), reason  # rounded before anything is decided by it


def _rounded(spacing: Any) -> np.ndarray:
    """To 0.0001 mm; below 0.1 mm, where that is coarse, to five digits."""
    return np.array([float(f"{edge:.5g}") if edge < 0.1 else round(edge, 4) for edge in spacing])


def _range(values: np.ndarray) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


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
    why = f"not where {'; '.join(reasons)}" if reasons else "no label's name has a direction"
    return tuple(kept), why
