"""Region maps of one case, from the sources that the configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segpipe.anatomy.shaping import shape_map
from segpipe.anatomy.template import MNI152_DICE, mni152_dice, mni152_map, sample_at
from segpipe.config.schema import AnatomyConfig, RegionConfig
from segpipe.data.nifti import align, read_labels, read_probability
from segpipe.errors import DataError, GeometryError
from segpipe.volume import GRID_TOLERANCE_MM, Volume

SHIPPED = ("gm", "wm", "csf", "brain")
TEMPLATE_SPACE = ("template", "frequency")


def region_maps(
    case_id: str,
    scan: Volume,
    config: AnatomyConfig,
    root: Path,
    *,
    priors: Mapping[str, Volume] | None = None,
    tolerance_mm: float = GRID_TOLERANCE_MM,
) -> tuple[dict[str, Volume], tuple[str, ...]]:
    """Every region of a case on the scan's own grid; the reference is neither read nor used.

    Each map is cut, grown, softened, inverted where asked, and raised to its floor
    (:func:`~segpipe.anatomy.shape_map`). A complement is 1 minus the maximum of all others as
    they came out. It is left out, with a flag, where another region is missing: it would claim
    that region's place.

    Parameters
    ----------
    case_id : str
        Stands for ``{case}`` in file names.
    scan : Volume
        (X, Y, Z) or (X, Y, Z, C).
    config : AnatomyConfig
    root : Path
        Folder that file names are relative to.
    priors : mapping of str to Volume, optional
        Lesion frequency in template space by region (:func:`~segpipe.anatomy.frequency_map`). It
        depends on who is held out, so it is made by the fold and never from the case's files.
    tolerance_mm : float
        How far corners of a file's grid may lie from the scan's.

    Returns
    -------
    maps : dict of str to Volume
        (X, Y, Z) float32 in [0, 1], in the order of the configuration.
    flags : tuple of str
        Regions that the case goes on without, and why.

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
    in_template = any(region.source in TEMPLATE_SPACE for region in direct)
    dice = mni152_dice(scan) if in_template else 0.0
    for region in direct:
        path = Path(root) / (region.file or "").replace("{case}", case_id)
        if region.source in TEMPLATE_SPACE:
            values, notes = _from_template(region, path, scan, dice, priors or {})
        else:
            values, notes = _from_case(region, path, scan, tolerance_mm)
        flags.extend(f"region {region.name}: {note}" for note in notes)
        if values is not None:
            found[region.name] = _shaped(region, values, scan)
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
    maps = {
        region.name: Volume(found[region.name], scan.affine, scan.form_codes)
        for region in config.regions
        if region.name in found
    }
    return maps, tuple(flags)


def _shaped(region: RegionConfig, values: np.ndarray, scan: Volume) -> np.ndarray:
    return shape_map(
        values,
        scan.spacing_mm,
        threshold=region.threshold,
        margin_mm=region.margin_mm,
        soften_mm=0.0 if region.source == "frequency" else region.soften_mm,
        invert=region.invert,
        floor=region.floor,
    )


def _from_case(
    region: RegionConfig, path: Path, scan: Volume, tolerance_mm: float
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Values of a mask or of labels on the scan's grid, or None with the reason."""
    if not path.is_file():
        return _absent(path, region, "a NIfTI file")
    if region.source == "labels":
        labels = _on_grid(read_labels(path), scan, path, tolerance_mm)
        return np.isin(labels, region.ids).astype(np.float32), ()
    mask, notes = read_probability(path)
    return _on_grid(mask, scan, path, tolerance_mm), notes


def _from_template(
    region: RegionConfig, path: Path, scan: Volume, dice: float, priors: Mapping[str, Volume]
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Values of a template on the scan's grid, or None where the scan lies elsewhere."""
    shipped = region.source == "template" and region.file in SHIPPED
    if region.source == "frequency" and region.name not in priors:
        return None, ("left out, there is no lesion frequency of training patients",)
    if region.source == "template" and not shipped and not path.is_file():
        return _absent(path, region, f"a NIfTI file, or one of {', '.join(SHIPPED)}")
    if dice < MNI152_DICE:
        note = (
            f"left out, the scan is not in MNI152 space (Dice {dice:.2f} of its foreground with "
            f"the template's brain; {MNI152_DICE:.2f} needed)"
        )
        return None, (note,)
    if region.source == "frequency":
        return sample_at(priors[region.name], scan), ()
    if shipped:
        return sample_at(mni152_map(region.file or ""), scan), ()
    template, notes = read_probability(path)
    return sample_at(template, scan), notes


def _absent(path: Path, region: RegionConfig, expected: str) -> tuple[None, tuple[str, ...]]:
    if region.optional:
        return None, (f"left out, {path.name} does not exist",)
    raise DataError(
        path,
        f"file of region {region.name} does not exist",
        expected=expected,
        fix=f"Add it, correct the file of region {region.name}, or set its optional to true.",
    )


def _on_grid(volume: Volume, scan: Volume, path: Path, tolerance_mm: float) -> np.ndarray:
    try:
        return align(volume, scan, tolerance_mm).array
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
