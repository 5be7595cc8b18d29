"""Reading a case: every channel and the reference on one grid, or an error that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segpipe.config import DataConfig
from segpipe.config.schema import GRID_TOLERANCE_MM
from segpipe.data.layouts import Case, ChannelFile
from segpipe.data.nifti import align, read_flagged_labels, read_image
from segpipe.errors import DataError, GeometryError
from segpipe.volume import Volume


@dataclass(frozen=True)
class LoadedCase:
    """A case in memory.

    Parameters
    ----------
    case : Case
    image : Volume
        (X, Y, Z, C) float32, finite, on the first channel's grid.
    reference : Volume or None
        (X, Y, Z), whole numbers among the declared labels, on the same grid.
    flags : tuple of str
        What was unusual: other storage order, repaired voxels, and so on.
    """

    case: Case
    image: Volume
    reference: Volume | None
    flags: tuple[str, ...]


def read_case(case: Case, dataset_labels: Mapping[str, int], config: DataConfig) -> LoadedCase:
    """Read a case's channels and reference.

    Raises
    ------
    DataError
        If a file is unusable, or the reference holds values that are not declared.
    GeometryError
        If the files do not lie on one grid, whatever the order of their axes.
    """
    case.require_files()
    reader = CaseReader(case, config)
    image, flags = reader.channel(case.channels[0])
    array = np.empty((*image.shape, len(case.channels)), dtype=np.float32, order="F")
    array[..., 0] = image.array
    for position, channel in enumerate(case.channels[1:], start=1):
        volume, found = reader.channel(channel)
        volume, turned = on_grid(volume, image, channel.path, config.grid_tolerance_mm)
        array[..., position] = volume.array
        flags += found + turned
    reference = None
    if case.reference is not None:
        reference, found = read_reference(case.reference, dataset_labels, config)
        reference, turned = on_grid(reference, image, case.reference, config.grid_tolerance_mm)
        flags += found + turned
    return LoadedCase(case, image.with_array(array), reference, tuple(dict.fromkeys(flags)))


class CaseReader:
    """Reads the channels of a case; a 4-D image is read once for all of them.

    Parameters
    ----------
    case : Case
    config : DataConfig
    """

    def __init__(self, case: Case, config: DataConfig) -> None:
        self.case = case
        self.config = config
        self._read: tuple[Path, Volume, tuple[str, ...]] | None = None

    def channel(self, channel: ChannelFile) -> tuple[Volume, tuple[str, ...]]:
        """One channel, 3-D, with flags that name its file.

        Raises
        ------
        DataError
            If the file is unusable or has other channels than the dataset declares.
        """
        path, index = channel.path, channel.index
        if self._read is None or self._read[0] != path:
            volume, flags = read_image(
                path, repair_nan=self.config.repair_nan, max_voxels=self.config.max_voxels
            )
            self._read = path, volume, tuple(f"{path.name}: {flag}" for flag in flags)
        _, volume, flags = self._read
        found = volume.array.shape[3] if volume.array.ndim == 4 else 1
        wanted = 1 if index is None else channel.of or len(self.case.channels)
        if found != wanted:
            raise DataError(
                path,
                "other channels than the dataset declares",
                expected="a 3-D image" if index is None else f"{wanted} on the fourth axis",
                received=f"shape {volume.array.shape}",
                fix="Declare the channels of the fourth axis, or save one image per channel.",
            )
        array = volume.array[..., index or 0] if volume.array.ndim == 4 else volume.array
        return volume.with_array(array), flags


def read_reference(
    path: Path, labels: Mapping[str, int], config: DataConfig
) -> tuple[Volume, tuple[str, ...]]:
    """A reference whose values are all declared, with flags that name its file.

    Raises
    ------
    DataError
        If the file is unusable or holds other values.
    """
    reference, flags = read_flagged_labels(path, max_voxels=config.max_voxels)
    allowed = {0, *labels.values()}
    if config.ignore_label is not None:
        allowed.add(config.ignore_label)
    values, counts = np.unique(reference.array, return_counts=True)
    unknown = {int(v): int(n) for v, n in zip(values, counts, strict=True) if v not in allowed}
    if unknown:
        shown = ", ".join(f"{v} ({n:,} voxels)" for v, n in list(unknown.items())[:8])
        declared = ", ".join(f"{name}={value}" for name, value in labels.items())
        raise DataError(
            path,
            "values that are no declared label",
            expected=f"0, {declared}",
            received=shown,
            fix="Correct the mask, declare the label, or set data.ignore_label.",
        )
    return reference, tuple(f"{path.name}: {flag}" for flag in flags)


def on_grid(
    volume: Volume, like: Volume, path: Path, tolerance_mm: float = GRID_TOLERANCE_MM
) -> tuple[Volume, tuple[str, ...]]:
    """Align the volume of a file and flag a change of storage order.

    Raises
    ------
    GeometryError
        If it lies on another grid; the message names the file and both grids.
    """
    try:
        aligned = align(volume, like, tolerance_mm)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    if aligned.array is volume.array:  # nothing was turned, whatever the axes are called
        return aligned, ()
    return aligned, (f"{path.name}: stored {volume.axcodes}, read as {like.axcodes}",)


def changed_while_read(case: str) -> DataError:
    """The error of a case whose files are not those any more that its voxels are of."""
    return DataError(
        case,
        "its files changed while they were read",
        expected="files that stay as they are",
        fix="Run this again once nothing writes them any more.",
    )
