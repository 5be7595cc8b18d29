"""Region maps of one case, from the sources that the configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segpipe.anatomy.placement import Placement, as_it_lies, map_on_scan
from segpipe.anatomy.shaping import shape_map
from segpipe.anatomy.template import mni152_map
from segpipe.config import AnatomyConfig, RegionConfig
from segpipe.config.schema import GRID_TOLERANCE_MM
from segpipe.data.nifti import MAX_VOXELS, read_flagged_labels, read_region
from segpipe.data.read import on_grid
from segpipe.errors import DataError
from segpipe.volume import Volume

SHIPPED = ("gm", "wm", "csf", "brain")
TEMPLATE_SPACE = ("template", "frequency")
_EMPTIED = "empty: its threshold, margin_mm or invert leave nothing of it"


def region_maps(
    case_id: str,
    scan: Volume,
    config: AnatomyConfig,
    root: Path,
    *,
    placement: Placement | None = None,
    priors: Mapping[str, Volume] | None = None,
    tolerance_mm: float = GRID_TOLERANCE_MM,
    max_voxels: int = MAX_VOXELS,
) -> tuple[dict[str, Volume], tuple[str, ...]]:
    """Every region of a case on the scan's own grid; the reference is neither read nor used.

    Each map is cut, grown, softened and inverted where asked (:func:`~segpipe.anatomy.shape_map`);
    the floor is no matter of where a region is, but of what it weighs
    (:func:`~segpipe.anatomy.false_positive_weight`). A complement is 1 minus the maximum of all
    others as they came out. It is left out, with a flag, where another region is missing: it would
    claim that region's place.

    Parameters
    ----------
    case_id : str
        Stands for ``{case}`` in file names.
    scan : Volume
        (X, Y, Z) or (X, Y, Z, C).
    config : AnatomyConfig
    root : Path
        Folder that file names are relative to.
    placement : Placement, optional
        Where template space lies in the scan; None: only where the scan lies in that space.
    priors : mapping of str to Volume, optional
        Lesion frequency in template space by region (:func:`~segpipe.anatomy.frequency_map`). It
        depends on who is held out, so it is made by the fold and never from the case's files.
    tolerance_mm : float
        How far corners of a file's grid may lie from the scan's.
    max_voxels : int
        Files that claim more are refused before allocation.

    Returns
    -------
    maps : dict of str to Volume
        (X, Y, Z) float32 in [0, 1], in the order of the configuration.
    flags : tuple of str
        Regions that the case goes on without, and why; what is unusual about their files.

    Raises
    ------
    DataError
        If a file is missing (unless the region is optional) or cannot be read.
    GeometryError
        If a mask or label map does not lie on the scan's grid.
    """
    found: dict[str, np.ndarray] = {}
    flags: list[str] = []
    direct = [region for region in config.regions if region.source != "complement"]
    for region in direct:
        path = region_file(region, root, case_id)
        if region.source in TEMPLATE_SPACE:
            placement = placement or as_it_lies(scan)
            values, notes = _from_template(region, path, scan, placement, priors or {}, max_voxels)
        else:
            values, notes = _from_case(region, path, scan, tolerance_mm, max_voxels)
        if values is not None:
            found[region.name] = _shaped(region, values, scan)
            if not found[region.name].any():
                why = _EMPTIED if values.any() else _why_empty(region, path)
                notes = (*notes, why)
        flags.extend(f"region {region.name}: {note}" for note in notes)
    missing = [region.name for region in direct if region.name not in found]
    others = list(found.values())
    for region in config.regions:
        if region.source != "complement":
            continue
        if missing:
            lacking = ", ".join(missing)
            flags.append(f"region {region.name}: left out, as it is what {lacking} leave over")
            continue
        rest = 1 - np.max(others, axis=0) if others else np.ones(scan.shape, np.float32)
        found[region.name] = _shaped(region, rest, scan)
        if not found[region.name].any():
            why = _EMPTIED if rest.any() else "empty: the others fill the scan"
            flags.append(f"region {region.name}: {why}")
    maps = {
        region.name: Volume(found[region.name], scan.affine, scan.form_codes)
        for region in config.regions
        if region.name in found
    }
    return maps, tuple(flags)


def region_file(region: RegionConfig, root: Path, case_id: str) -> Path:
    """Where a region's file lies, if it has one, for a case."""
    return Path(root) / (region.file or "").replace("{case}", case_id)


def is_shipped(region: RegionConfig) -> bool:
    """Whether a region is one of the maps of MNI152 that need no file."""
    return region.source == "template" and region.file in SHIPPED


def wants_template(config: AnatomyConfig) -> bool:
    """Whether a region comes from template space."""
    return any(region.source in TEMPLATE_SPACE for region in config.regions)


def _shaped(region: RegionConfig, values: np.ndarray, scan: Volume) -> np.ndarray:
    return shape_map(
        values,
        scan.spacing_mm,
        threshold=region.threshold,
        margin_mm=region.margin_mm,
        soften_mm=0.0 if region.source == "frequency" else region.soften_mm,
        invert=region.invert,
    )


def _why_empty(region: RegionConfig, path: Path) -> str:
    """Of a map that is 0 all over the scan: a penalty that it weighs does nothing there."""
    if region.source == "labels":
        return f"empty: {path.name} has none of the labels {', '.join(map(str, region.ids))}"
    if region.source in TEMPLATE_SPACE:
        return "empty: the map is 0 all over the scan"
    return f"empty: {path.name} is 0 everywhere"


def _from_case(
    region: RegionConfig, path: Path, scan: Volume, tolerance_mm: float, max_voxels: int
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Values of a mask or of labels on the scan's grid with flags, or None with the reason."""
    if not path.is_file():
        return _absent(path, region, "a NIfTI file")
    if region.source == "labels":
        labels, notes = read_flagged_labels(path, max_voxels=max_voxels)
        labels, turned = on_grid(labels, scan, path, tolerance_mm)
        return np.isin(labels.array, region.ids).astype(np.float32), (*notes, *turned)
    mask, notes = read_region(
        path,
        max_voxels=max_voxels,
        fix="Write 1 inside, or a share, and 0 outside; or give the region source labels and ids.",
    )
    mask, turned = on_grid(mask, scan, path, tolerance_mm)
    return mask.array, (*notes, *turned)


def _from_template(
    region: RegionConfig,
    path: Path,
    scan: Volume,
    placement: Placement,
    priors: Mapping[str, Volume],
    max_voxels: int,
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Values of a map in template space on the scan's grid, or None with the reason."""
    template, notes = _template_map(region, path, priors, max_voxels)
    if template is None:
        return None, notes
    if placement.problem:
        return None, (f"left out, {placement.words()}",)
    return map_on_scan(template, placement, scan), notes


def _template_map(
    region: RegionConfig, path: Path, priors: Mapping[str, Volume], max_voxels: int
) -> tuple[Volume | None, tuple[str, ...]]:
    if region.source == "frequency":
        if region.name in priors:
            return priors[region.name], ()
        return None, ("left out, there is no lesion frequency of training patients",)
    if is_shipped(region):
        return mni152_map(region.file or ""), ()
    if not path.is_file():
        return _absent(path, region, f"a NIfTI file, or one of {', '.join(SHIPPED)}")
    return read_region(path, max_voxels=max_voxels)


def _absent(path: Path, region: RegionConfig, expected: str) -> tuple[None, tuple[str, ...]]:
    if region.optional:
        return None, (f"left out, {path.name} does not exist",)
    raise DataError(
        path,
        f"file of region {region.name} does not exist",
        expected=expected,
        fix=f"Add it, correct the file of region {region.name}, or set its optional to true.",
    )
