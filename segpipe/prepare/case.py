"""Prepared cases: made once, kept in the cache, read a patch at a time."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe.data.nifti import file_sha256
from segpipe.errors import DataError
from segpipe.geometry import GridTransform
from segpipe.prepare import store
from segpipe.prepare.fingerprint import evenly_spaced
from segpipe.prepare.image import (
    PreparedImage,
    prepare_reference,
    prepare_regions,
    prepare_volume,
)
from segpipe.prepare.plan import PreparePlan
from segpipe.prepare.voxels import StoredArray, pack
from segpipe.volume import Volume

if TYPE_CHECKING:
    from segpipe.data.layouts import Case
    from segpipe.data.read import LoadedCase

FORMAT = 2
"""Part of every key: raise it whenever the same plan would give other voxels or other files."""

MAX_FOREGROUND = 10_000


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case on the prepared grid, voxels left on disk. It can be sent to another process.

    Parameters
    ----------
    id, patient : str
    folder : Path
        Entry in the cache.
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
    foreground : dict of int to (N, 3) int32 ndarray
        Voxels of each class, at most 10,000, evenly spaced over all of them.
    transform : GridTransform
        The way back to the scan's own grid.
    flags : tuple of str
        What was unusual when the case was read.
    registration : dict or None
        Where template space lies in it, in figures and words; None where no region needs it.
    """

    id: str
    patient: str
    folder: Path
    image: StoredArray | np.ndarray
    reference: StoredArray | np.ndarray | None
    regions: StoredArray | np.ndarray
    region_names: tuple[str, ...]
    shift: np.ndarray
    scale: np.ndarray
    foreground: dict[int, np.ndarray]
    transform: GridTransform
    flags: tuple[str, ...]
    registration: dict[str, Any] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along R, A, S."""
        return self.transform.target_shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing along R, A, S."""
        return self.transform.spacing_mm

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_entry, (self.folder,)


def cache_key(
    case: Case,
    region_maps: Mapping[str, Volume],
    plan: PreparePlan,
    registration: dict[str, Any] | None = None,
) -> str:
    """SHA-256 of all that decides a prepared case: files, regions, registration, plan."""
    content = {
        "format": FORMAT,
        "plan": plan.model_dump(mode="json"),
        "labels": list(plan.labels.items()),  # their order gives the class indices
        "case": [case.id, case.patient],
        "channels": [[file_sha256(file.path), file.index] for file in case.channels],
        "reference": None if case.reference is None else file_sha256(case.reference),
        "regions": [
            [name, volume_digest(region_maps[name])] for name in _present(region_maps, plan)
        ],
        "registration": registration,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_case(
    case: Case,
    region_maps: Mapping[str, Volume],
    plan: PreparePlan,
    cache_dir: Path,
    registration: dict[str, Any] | None = None,
) -> PreparedCase | None:
    """Open a case that was prepared before, without reading the scan's voxels.

    Returns
    -------
    PreparedCase or None
        None if it is not in the cache, or its entry is damaged.
    """
    folder = store.find(cache_dir, cache_key(case, region_maps, plan, registration))
    return None if folder is None else _read_entry(folder)


def prepare_case(
    loaded: LoadedCase,
    region_maps: Mapping[str, Volume],
    plan: PreparePlan,
    cache_dir: Path,
    registration: dict[str, Any] | None = None,
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
    registration : dict, optional
        Where template space lies in the case; kept with it.

    Raises
    ------
    DataError
        If the case does not fit the plan (the case is named), or the cache cannot be written.
    """
    key = cache_key(loaded.case, region_maps, plan, registration)
    folder = store.find(cache_dir, key)
    if folder is None:
        try:
            files = _make_files(loaded, region_maps, plan, registration)
        except DataError as error:
            raise DataError(
                f"case {loaded.case.id}, {error.where}",
                error.problem,
                expected=error.expected,
                received=error.received,
                fix=error.fix,
            ) from error
        folder = store.put(cache_dir, key, files)
    return _read_entry(folder)


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


def _present(region_maps: Mapping[str, Volume], plan: PreparePlan) -> tuple[str, ...]:
    unknown = set(region_maps) - set(plan.regions)
    if unknown:
        raise DataError(
            "regions",
            "unknown to the plan",
            expected=f"among {list(plan.regions)}",
            received=str(sorted(unknown)),
        )
    return tuple(name for name in plan.regions if name in region_maps)


def _make_files(
    loaded: LoadedCase,
    region_maps: Mapping[str, Volume],
    plan: PreparePlan,
    registration: dict[str, Any] | None,
) -> dict[str, bytes]:
    prepared = prepare_volume(loaded.image, plan)
    names = _present(region_maps, plan)
    maps = {name: region_maps[name] for name in names}
    regions = prepare_regions(maps, loaded.image, prepared.transform)
    found = {value: np.zeros((0, 3), np.int32) for value in range(1, len(plan.labels) + 1)}
    files = {"image.b2nd": pack(prepared.array), "regions.b2nd": pack(regions)}
    if loaded.reference is not None:
        reference = prepare_reference(loaded.reference, prepared.transform, plan)
        found = foreground_index(reference, len(plan.labels))
        files["reference.b2nd"] = pack(reference)
    arrays: dict[str, Any] = {str(value): voxels for value, voxels in found.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    files["foreground.npz"] = stream.getvalue()
    described = {**_describe(loaded, prepared, names), "registration": registration}
    files["case.json"] = json.dumps(described).encode()
    return files


def _describe(
    loaded: LoadedCase, prepared: PreparedImage, names: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "id": loaded.case.id,
        "patient": loaded.case.patient,
        "shift": prepared.shift.tolist(),
        "scale": prepared.scale.tolist(),
        "transform": prepared.transform.to_dict(),
        "regions": list(names),
        "flags": list(loaded.flags),
    }


def _read_entry(folder: Path) -> PreparedCase:
    described = json.loads((folder / "case.json").read_bytes())
    with np.load(folder / "foreground.npz", allow_pickle=False) as stored:
        foreground = {int(value): stored[value] for value in stored.files}
    reference = folder / "reference.b2nd"
    return PreparedCase(
        id=described["id"],
        patient=described["patient"],
        folder=folder,
        image=StoredArray(folder / "image.b2nd"),
        reference=StoredArray(reference) if reference.exists() else None,
        regions=StoredArray(folder / "regions.b2nd"),
        region_names=tuple(described["regions"]),
        shift=np.array(described["shift"], np.float32),
        scale=np.array(described["scale"], np.float32),
        foreground=foreground,
        transform=GridTransform.from_dict(described["transform"]),
        flags=tuple(described["flags"]),
        registration=described["registration"],
    )


def volume_digest(volume: Volume) -> str:
    """SHA-256 of voxels, their type and their affine."""
    array = np.ascontiguousarray(volume.array)
    head = json.dumps([array.dtype.str, array.shape, volume.affine.tolist()])
    return hashlib.sha256(head.encode() + array.data.cast("B")).hexdigest()
