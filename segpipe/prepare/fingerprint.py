"""What the training cases are like: grids from the headers, intensities from the voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe.config import Config, DataConfig
from segpipe.data.nifti import read_grid
from segpipe.data.read import read_case
from segpipe.errors import DataError
from segpipe.geometry import grid_transform
from segpipe.parallel import map_cases
from segpipe.prepare.intensity import ChannelIntensities

if TYPE_CHECKING:
    from segpipe.data.layouts import Case

_SAMPLES_PER_CASE = 10_000


@dataclass(frozen=True)
class CaseGrid:
    """Grid of one case along R, A, S.

    Parameters
    ----------
    case : str
    shape : (3,) int
        Voxels.
    spacing_mm : (3,) float
    """

    case: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


def median_spacing_mm(grids: Sequence[CaseGrid]) -> tuple[float, float, float]:
    """Median spacing of several grids along R, A, S."""
    r, a, s = np.median([grid.spacing_mm for grid in grids], axis=0).tolist()
    return r, a, s


def measure_grids(cases: Sequence[Case], config: Config) -> tuple[CaseGrid, ...]:
    """Grid of each case from the header of its first channel; unreadable cases are left out.

    Raises
    ------
    DataError
        If no case is readable: the first case's error.
    """
    return tuple(_each(partial(_measure_grid, config=config.data), cases, config))


def measure_intensities(
    cases: Sequence[Case], labels: dict[str, int], config: Config
) -> tuple[ChannelIntensities, ...]:
    """Intensities of each channel over the labelled voxels of the cases.

    At most 10,000 voxels of each case are taken, evenly spaced; all voxels where no case has
    labelled ones. Unreadable cases are left out.

    Raises
    ------
    DataError
        If no case is readable: the first case's error.
    """
    measure = partial(_sample, labels=labels, config=config.data)
    samples = _each(measure, cases, config)
    labelled = [values for has_labels, values in samples if has_labels]
    pooled = np.concatenate(labelled or [values for _, values in samples]).astype(np.float64)
    low, median, high = np.percentile(pooled, (0.5, 50, 99.5), axis=0)
    return tuple(
        ChannelIntensities(
            low=low[c],
            median=median[c],
            high=high[c],
            mean=pooled[:, c].mean(),
            std=pooled[:, c].std(),
        )
        for c in range(pooled.shape[1])
    )


def evenly_spaced(count: int, limit: int) -> np.ndarray:
    """At most ``limit`` indices below ``count``, evenly spaced from the first to the last.

    Examples
    --------
    >>> evenly_spaced(9, 3), evenly_spaced(2, 3)
    (array([0, 4, 8]), array([0, 1]))
    """
    if count <= limit:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).round().astype(np.int64)


def _measure_grid(case: Case, config: DataConfig) -> CaseGrid:
    case.require_files()
    volume = read_grid(case.channels[0].path, max_voxels=config.max_voxels)
    transform = grid_transform(volume.shape, volume.affine)
    return CaseGrid(case.id, transform.target_shape, transform.spacing_mm)


def _sample(case: Case, labels: dict[str, int], config: DataConfig) -> tuple[bool, np.ndarray]:
    """Whether there are labelled voxels, and (N, C) intensities."""
    loaded = read_case(case, labels, config)
    values = loaded.image.array.reshape(-1, loaded.image.array.shape[-1])
    labelled = np.zeros(0, np.int64)
    if loaded.reference is not None:
        labelled = np.flatnonzero(np.isin(loaded.reference.array, list(labels.values())))
    if labelled.size:
        return True, values[labelled[evenly_spaced(labelled.size, _SAMPLES_PER_CASE)]]
    return False, values[evenly_spaced(len(values), _SAMPLES_PER_CASE)]


def _each(function: Callable[[Case], Any], cases: Sequence[Case], config: Config) -> list[Any]:
    outcomes = list(
        map_cases(function, cases, workers=config.prepare.workers, scheduler=config.scheduler)
    )
    values = [outcome.value for outcome in outcomes if outcome.error is None]
    if values:
        return values
    if outcomes and outcomes[0].error is not None:
        raise outcomes[0].error
    raise DataError(config.data.root, "no training cases", expected="at least one case")
