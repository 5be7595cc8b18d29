"""Prepared cases: made once, kept in the cache, read a patch at a time.

A case has two entries there: its image with the reference, and its regions. So folds whose regions
differ, as those from lesion frequency do, share the image.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe.data.nifti import MAX_VOXELS
from segpipe.data.read import changed_while_read
from segpipe.errors import DataError
from segpipe.geometry import GridTransform, forward_labels
from segpipe.prepare import store
from segpipe.prepare.fingerprint import evenly_spaced
from segpipe.prepare.image import class_indices, lost_lesions, prepare_regions, prepare_volume
from segpipe.prepare.keys import image_key, present_regions, regions_key, scan_mark
from segpipe.prepare.plan import PreparePlan
from segpipe.prepare.voxels import StoredArray, pack
from segpipe.volume import Volume

if TYPE_CHECKING:
    from segpipe.data.layouts import Case
    from segpipe.data.read import LoadedCase

MAX_FOREGROUND = 10_000


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case on the prepared grid, voxels left on disk. It can be sent to another process.

    Parameters
    ----------
    id, patient : str
    folder, regions_folder : Path
        Entries in the cache.
    image : StoredArray, or ndarray once it is kept in memory
        (X, Y, Z, C) float32 in [0, 1], along R, A, S.
    reference : StoredArray, ndarray or None
        (X, Y, Z) uint8 class indices, 255 to be ignored.
    regions : StoredArray or ndarray
        (X, Y, Z, R) uint8, 255 for a region's inside.
    region_names : tuple of str
        The regions that this case has, in the order of the last axis.
    shift, scale : (C,) float32 ndarray
        ``(image - shift) / scale`` is what the network sees.
    profile : (C, 6) float ndarray
        How the scan's intensities are distributed (:mod:`segpipe.prepare.profile`).
    foreground : dict of int to (N, 3) int32 ndarray
        Voxels of each class, at most 10,000, evenly spaced over all of them.
    transform : GridTransform
        The way back to the scan's own grid.
    flags : tuple of str
        What was unusual when the case was read.
    mark : str
        Of :func:`segpipe.prepare.keys.scan_mark`.
    """

    id: str
    patient: str
    folder: Path
    regions_folder: Path
    image: StoredArray | np.ndarray
    reference: StoredArray | np.ndarray | None
    regions: StoredArray | np.ndarray
    region_names: tuple[str, ...]
    shift: np.ndarray
    scale: np.ndarray
    profile: np.ndarray
    foreground: dict[int, np.ndarray]
    transform: GridTransform
    flags: tuple[str, ...]
    mark: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along R, A, S."""
        return self.transform.target_shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing along R, A, S."""
        return self.transform.spacing_mm

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_entries, (self.folder, self.regions_folder)


def prepare_case(
    loaded: LoadedCase,
    region_maps: Mapping[str, Volume],
    plan: PreparePlan,
    cache_dir: Path,
    region_flags: Sequence[str] = (),
    *,
    read_as: str | None = None,
    max_voxels: int = MAX_VOXELS,
) -> PreparedCase:
    """Open a case from the cache, or prepare it and store it there.

    Parameters
    ----------
    loaded : LoadedCase
    region_maps : mapping of str to Volume
        Region name to values in [0, 1] on the scan's grid. Those of the plan that the case
        lacks are left out.
    plan : PreparePlan
    cache_dir : Path
        Several processes may use it at once.
    region_flags : sequence of str
        What was unusual with the regions; added to the flags of the case.
    read_as : str, optional
        :func:`~segpipe.prepare.keys.image_key` of the case from before it was read: what is stored
        is then of the files that the key is of.
    max_voxels : int
        As in :func:`~segpipe.prepare.image.prepare_volume`.

    Raises
    ------
    DataError
        If the case does not fit the plan (the case is named), or its files changed meanwhile.
    StorageError
        If the cache cannot be written.
    """
    key = image_key(loaded.case, plan)
    if read_as is not None and key != read_as:
        raise changed_while_read(loaded.case.id)
    folder = store.find(cache_dir, key)
    if folder is None:
        with naming_case(loaded.case):
            files = _image_files(loaded, plan, max_voxels)
        folder = store.put(cache_dir, key, files)
    key_of_regions = regions_key(key, region_maps, plan, region_flags)
    regions = store.find(cache_dir, key_of_regions)
    if regions is None:
        maps = {name: region_maps[name] for name in present_regions(region_maps, plan)}
        with naming_case(loaded.case):
            files = _region_files(loaded.image, maps, _transform(folder), region_flags)
        regions = store.put(cache_dir, key_of_regions, files)
    return _read_entries(folder, regions)


def foreground_index(reference: np.ndarray, classes: int) -> dict[int, np.ndarray]:
    """Where each class is.

    Parameters
    ----------
    reference : (X, Y, Z) uint8 ndarray
        Class indices.
    classes : int
        Number of foreground classes.

    Returns
    -------
    dict of int to (N, 3) int32 ndarray
        Voxels of class 1, 2, …; at most 10,000, evenly spaced in storage order.
    """
    index = {}
    for value in range(1, classes + 1):
        found = np.flatnonzero(reference == value)
        chosen = found[evenly_spaced(found.size, MAX_FOREGROUND)]
        index[value] = np.stack(np.unravel_index(chosen, reference.shape), -1).astype(np.int32)
    return index


@contextlib.contextmanager
def naming_case(case: Case) -> Iterator[None]:
    """Put the case's id before the place that an error names."""
    try:
        yield
    except DataError as error:
        raise DataError(
            f"case {case.id}, {error.where}",
            error.problem,
            expected=error.expected,
            received=error.received,
            fix=error.fix,
        ) from error


def _image_files(loaded: LoadedCase, plan: PreparePlan, max_voxels: int) -> dict[str, bytes]:
    prepared = prepare_volume(loaded.image, plan, max_voxels=max_voxels)
    found = {value: np.zeros((0, 3), np.int32) for value in range(1, len(plan.labels) + 1)}
    files, flags = {"image.b2nd": pack(prepared.array)}, list(loaded.flags)
    if loaded.reference is not None:
        classes = class_indices(loaded.reference.array, plan.labels, plan.ignore_label)
        reference = forward_labels(classes, prepared.transform)
        found = foreground_index(reference, len(plan.labels))
        files["reference.b2nd"] = pack(reference)
        thin, outside, lesions = lost_lesions(classes, reference, prepared.transform)
        if thin:
            spacing = " × ".join(f"{edge:.3g}" for edge in prepared.transform.spacing_mm)
            flags.append(f"reference: {thin} of {lesions} lesions vanish at {spacing} mm")
        if outside:
            flags.append(f"reference: {outside} of {lesions} lesions lie where every channel is 0")
    arrays: dict[str, Any] = {str(value): voxels for value, voxels in found.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    files["foreground.npz"] = stream.getvalue()
    described = {
        "id": loaded.case.id,
        "patient": loaded.case.patient,
        "shift": prepared.shift.tolist(),
        "scale": prepared.scale.tolist(),
        "profile": prepared.profile.tolist(),
        "transform": prepared.transform.to_dict(),
        "flags": flags,
        "mark": scan_mark(loaded.case),
    }
    files["case.json"] = json.dumps(described).encode()
    return files


def _region_files(
    image: Volume,
    region_maps: Mapping[str, Volume],
    transform: GridTransform,
    flags: Sequence[str],
) -> dict[str, bytes]:
    described = {"regions": list(region_maps), "flags": list(flags)}
    return {
        "regions.b2nd": pack(prepare_regions(region_maps, image, transform)),
        "regions.json": json.dumps(described).encode(),
    }


def _read_entries(folder: Path, regions_folder: Path) -> PreparedCase:
    described = json.loads((folder / "case.json").read_bytes())
    of_regions = json.loads((regions_folder / "regions.json").read_bytes())
    with np.load(folder / "foreground.npz", allow_pickle=False) as stored:
        foreground = {int(value): stored[value] for value in stored.files}
    reference = folder / "reference.b2nd"
    return PreparedCase(
        id=described["id"],
        patient=described["patient"],
        folder=folder,
        regions_folder=regions_folder,
        image=StoredArray(folder / "image.b2nd"),
        reference=StoredArray(reference) if reference.exists() else None,
        regions=StoredArray(regions_folder / "regions.b2nd"),
        region_names=tuple(of_regions["regions"]),
        shift=np.array(described["shift"], np.float32),
        scale=np.array(described["scale"], np.float32),
        profile=np.array(described["profile"]),
        foreground=foreground,
        transform=GridTransform.from_dict(described["transform"]),
        flags=(*described["flags"], *of_regions["flags"]),
        mark=described["mark"],
    )


def _transform(folder: Path) -> GridTransform:
    described = json.loads((folder / "case.json").read_bytes())
    return GridTransform.from_dict(described["transform"])
