"""Where a NIfTI header says the voxels lie: sform, qform, or voxel sizes alone."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from segpipe.errors import DataError, GeometryError
from segpipe.volume import Volume, grid_difference_mm

FORM_DISAGREEMENT_MM = 0.1
PLAUSIBLE_SPACING_MM = (0.0001, 10_000.0)
FLATTEST = 1e-3  # of a voxel: its volume over the product of its edges, 1 for a cuboid
_UNITS = {1: "metres", 3: "micrometres"}


def read_affine(
    path: Path, raw: nib.Nifti1Header, shape: tuple[int, ...]
) -> tuple[np.ndarray, tuple[int, int], tuple[str, ...]]:
    """The affine by the standard's order (sform, qform, voxel sizes), form codes and flags.

    Parameters
    ----------
    path : Path
        Named in errors.
    raw : Nifti1Header or Nifti2Header
        Unchecked.
    shape : tuple of int
        Of the image, to say how far two forms lie apart.

    Raises
    ------
    DataError
        If voxel sizes are not finite and positive, not in mm, or the form is no grid.
    """
    spacing = np.asarray(raw["pixdim"][1:4], dtype=float)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise _bad_grid(path, "impossible voxel sizes", "finite, above 0 mm", spacing.tolist())
    unit = int(raw["xyzt_units"]) & 7
    if unit in _UNITS:
        raise _bad_grid(path, "voxel sizes are not in millimetres", "mm", _UNITS[unit])
    codes = int(raw["qform_code"]), int(raw["sform_code"])
    if not all(0 <= code <= 5 for code in codes):
        raise _bad_grid(path, "unknown qform or sform code", "0 to 5", codes)
    qform = _qform(raw) if codes[0] else None
    flags: list[str] = []
    if codes[1]:
        affine = np.asarray(raw.get_sform(), dtype=float)
        _check_affine(path, affine, "sform")
        flags += _form_flags(affine, qform, codes, spacing, shape)
    elif codes[0]:
        affine = np.full((4, 4), np.nan) if qform is None else qform
        _check_affine(path, affine, "qform")
    else:
        affine = np.asarray(raw.get_base_affine(), dtype=float)
        _check_affine(path, affine, "grid of the voxel sizes")
        flags.append("neither qform nor sform: orientation is assumed to be LAS")
    return affine, codes, tuple(flags)


def _qform(raw: nib.Nifti1Header) -> np.ndarray | None:
    """The qform; by the standard only the sign of pixdim[0] counts, and 0 is positive."""
    header = raw.copy()
    header["pixdim"][0] = -1 if raw["pixdim"][0] < 0 else 1
    try:
        return np.asarray(header.get_qform(), dtype=float)
    except (HeaderDataError, ValueError, ArithmeticError):
        return None


def _check_affine(path: Path, affine: np.ndarray, form: str) -> None:
    linear = affine[:3, :3]
    edges = np.linalg.norm(linear, axis=0)
    low, high = PLAUSIBLE_SPACING_MM
    if not np.isfinite(affine).all() or not ((edges >= low) & (edges <= high)).all():
        wanted = f"finite numbers, voxel sizes of {low} to {high} mm"
        raise _bad_grid(path, f"the {form} is no grid", wanted, affine.tolist())
    volume_mm3 = abs(np.linalg.det(linear))
    if volume_mm3 < max(1e-9, FLATTEST * float(edges.prod())):
        raise _bad_grid(path, f"the {form} is singular", "an invertible matrix", affine.tolist())


def _form_flags(affine, qform, codes, spacing, shape) -> list[str]:
    flags = []
    if codes[0]:
        try:
            gap = grid_difference_mm(_grid(shape, affine), _grid(shape, qform))
        except (GeometryError, TypeError, ValueError):
            gap = math.inf
        if not math.isfinite(gap):
            flags.append("the qform is no grid: sform is used")
        elif gap > FORM_DISAGREEMENT_MM:
            flags.append(f"qform and sform differ by {gap:.3g} mm: sform is used")
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(edges, spacing, rtol=1e-3, atol=1e-3):
        flags.append(
            f"voxel sizes {np.round(spacing, 4).tolist()} mm contradict the sform's "
            f"{np.round(edges, 4).tolist()} mm: sform is used"
        )
    return flags


def _grid(shape: tuple[int, ...], affine: np.ndarray) -> Volume:
    return Volume(np.broadcast_to(np.uint8(0), shape), affine)


def _bad_grid(path: Path, problem: str, expected: str, received: object) -> DataError:
    return DataError(
        path,
        problem,
        expected=expected,
        received=str(received),
        fix="Convert the scan again from its DICOM files (dcm2niix), or mend the header.",
    )
