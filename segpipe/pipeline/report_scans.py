"""The scans of a predicted case, for its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segpipe.config.schema import GRID_TOLERANCE_MM
from segpipe.data.nifti import align, read_image
from segpipe.errors import DataError, GeometryError
from segpipe.files import file_sha256
from segpipe.folders import error_without_folders
from segpipe.report.document import CaseRecord
from segpipe.volume import Volume


def read_channels(
    record: CaseRecord, folder: Path, names: Sequence[str], components: Volume, max_voxels: int
) -> tuple[dict[str, Volume], str]:
    """The very scans that a case was predicted from, on the grid of its component map.

    Parameters
    ----------
    record : CaseRecord
    folder : Path
        Predictions folder, which relative paths start from.
    names : sequence of str
        Of the channels.
    components : Volume
    max_voxels : int
        Scans that claim more are refused before allocation.

    Returns
    -------
    (dict of str to Volume, str)
        The scans by channel; or none, and why in words.
    """
    channels: dict[str, Volume] = {}
    for name, channel in zip(names, record.channels, strict=False):
        path = folder / channel.path  # an absolute path stays as it is
        path = path if path.exists() else Path(channel.path)
        if not path.exists():
            return {}, f"the {name} scan is no longer where it was predicted from"
        if channel.sha256 is None or file_sha256(path) != channel.sha256:
            return {}, f"the {name} scan was changed after it was predicted from"
        try:
            image, _ = read_image(path, index=channel.index, repair_nan=True, max_voxels=max_voxels)
            channels[name] = align(image, components, record.grid_tolerance_mm or GRID_TOLERANCE_MM)
        except (DataError, GeometryError) as error:
            return {}, error_without_folders(error, [path])
    return channels, "" if channels else "predict.json names no scan"
