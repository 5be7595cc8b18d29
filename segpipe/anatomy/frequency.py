"""Lesion frequency in template space: where the training patients have their lesions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from segpipe.anatomy.template import brain_seen
from segpipe.data.layouts.case import image_stem
from segpipe.data.nifti import MAX_VOXELS, align, read_grid, read_labels
from segpipe.errors import DataError, GeometryError
from segpipe.volume import Volume, describe_grid

LEAST_BRAIN = 0.75
"""Share of the template's brain in a grid; the box of a brain 0.8 times its size has 0.83."""


@dataclass(frozen=True)
class FrequencyFiles:
    """Lesion masks of a folder, and which of them may be counted.

    Parameters
    ----------
    counted : dict of str to tuple of Path
        Patient to masks, both in the order of names.
    held_out : tuple of str
        Names of files that are left out, since they are, or may be, of a held-out patient.
    """

    counted: dict[str, tuple[Path, ...]]
    held_out: tuple[str, ...]


def frequency_files(
    folder: Path,
    held_out: Collection[str],
    patients: Mapping[str, str],
    pattern: str | None = None,
) -> FrequencyFiles:
    """Sort the masks of a folder by patient, without those of held-out patients.

    The patient of a mask is that of the case of the same name; else what the pattern finds in
    the name; else the name. A mask is left out if its patient is held out, and also if a held-out
    name is a part of its own, between characters that are neither letters nor digits
    (``lit07`` in ``lit07_lesions``): rather a patient too few than one too many. Capital and
    small letters are the same.

    Parameters
    ----------
    folder : Path
        Masks in template space, ``NAME.nii.gz`` or ``NAME.nii``.
    held_out : collection of str
        Patients and case ids that must not be counted.
    patients : mapping of str to str
        Case id to patient.
    pattern : str, optional
        Regular expression whose first group yields the patient from the name.

    Raises
    ------
    DataError
        If the folder does not exist or has no NIfTI file.
    """
    files = sorted(path for path in Path(folder).glob("*") if path.is_file())
    names = {path: name for path in files if (name := image_stem(path.name)) is not None}
    if not names:
        raise DataError(
            folder,
            "no lesion masks",
            expected="a folder of NIfTI masks in template space, one or more per patient",
            fix="Correct the file of the region, or set its optional to true.",
        )
    out = {name.casefold() for name in held_out}
    parts = [re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])") for name in sorted(out)]
    known = {case.casefold(): patient for case, patient in patients.items()}
    counted: dict[str, list[Path]] = {}
    left_out = []
    for path, name in names.items():
        patient = _patient(name, known, pattern)
        if patient.casefold() in out or any(part.search(name.casefold()) for part in parts):
            left_out.append(path.name)
        else:
            counted.setdefault(patient, []).append(path)
    return FrequencyFiles(
        {patient: tuple(counted[patient]) for patient in sorted(counted)}, tuple(left_out)
    )


def check_space(path: Path, max_voxels: int = MAX_VOXELS) -> None:
    """Refuse a mask whose grid misses the template's brain; only the header is read.

    A grid that holds the brain may still be that of another space: headers do not tell.

    Raises
    ------
    GeometryError
        If less than three quarters of the template's brain lie inside.
    DataError
        If the header cannot be read.
    """
    grid = read_grid(path, max_voxels=max_voxels)
    seen = brain_seen(grid)
    if seen < LEAST_BRAIN:
        raise GeometryError(
            f"{path}: the mask does not lie in MNI152 space; expected a grid with at least "
            f"{LEAST_BRAIN:.0%} of the template's brain inside; received {describe_grid(grid)}, "
            f"with {seen:.0%} inside. Resample the masks of the folder into MNI152 space, or "
            "leave the region's file out to count the dataset's own references"
        )


def read_mask(path: Path, max_voxels: int = MAX_VOXELS) -> Volume:
    """A lesion mask: (X, Y, Z) bool, lesion is what is not 0.

    Parameters
    ----------
    path : Path
    max_voxels : int
        A mask that claims more is refused before allocation.

    Raises
    ------
    DataError
        If the file cannot be read, or holds anything but whole numbers.
    """
    labels = read_labels(path, max_voxels=max_voxels)
    return labels.with_array(labels.array != 0)


def frequency_map(
    counted: Mapping[str, Sequence[Path]],
    soften_mm: float = 0.0,
    read: Callable[[Path], Volume] = read_mask,
) -> Volume:
    """Share of patients with a lesion at each voxel, smoothed.

    Every patient weighs the same: one with several masks counts with their mean.

    Parameters
    ----------
    counted : mapping of str to sequence of Path
        Patient to masks.
    soften_mm : float
        Standard deviation of a Gaussian; outside the array there are no lesions.
    read : callable
        Path to (X, Y, Z) mask, bool, or float in [0, 1] for voxels that are lesion in part.

    Returns
    -------
    Volume
        (X, Y, Z) float32 in [0, 1], on the grid of the first mask.

    Raises
    ------
    DataError
        If a file cannot be read.
    GeometryError
        If the masks do not lie on one grid.
    ValueError
        If there is no patient.
    """
    if not counted:
        raise ValueError("lesion frequency: expected at least one patient; received none")
    grid: Volume | None = None
    total = np.zeros(0)
    for paths in counted.values():
        for path in paths:
            mask = read(path)
            if grid is None:
                grid, total = mask, np.zeros(mask.shape)
            try:
                total += align(mask, grid).array / len(paths)
            except GeometryError as error:
                raise GeometryError(f"{path}: {error}") from error
    assert grid is not None
    share = (total / len(counted)).astype(np.float32)
    if soften_mm > 0:
        sigma = [soften_mm / spacing for spacing in grid.spacing_mm]
        share = ndimage.gaussian_filter(share, sigma, mode="constant", truncate=3.0)
    return grid.with_array(np.clip(share, 0, 1))


def _patient(name: str, patients: Mapping[str, str], pattern: str | None) -> str:
    if name.casefold() in patients:
        return patients[name.casefold()]
    found = re.search(pattern, name) if pattern is not None else None
    return found[1] if found is not None and found[1] else name
