"""Keys of the cache: whatever decides a file of a prepared case is part of its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe.data.nifti import file_sha256
from segpipe.errors import DataError
from segpipe.prepare.plan import PreparePlan
from segpipe.volume import Volume

if TYPE_CHECKING:
    from segpipe.data.layouts import Case

FORMAT = 5
"""Part of every key: raise it whenever the same plan would give other voxels or other files."""


def image_key(case: Case, plan: PreparePlan) -> str:
    """SHA-256 of all that decides image and reference: the files and the plan without regions."""
    return _digest(
        {
            "format": FORMAT,
            "plan": plan.model_dump(mode="json", exclude={"regions"}),
            "labels": list(plan.labels.items()),  # their order gives the class indices
            "case": [case.id, case.patient],
            "channels": [[file_sha256(file.path), file.index] for file in case.channels],
            "reference": None if case.reference is None else file_sha256(case.reference),
        }
    )


def scan_mark(case: Case) -> str:
    """What tells a scan from others wherever it lies: SHA-256 of its first channel's file."""
    first = case.channels[0]
    return _digest({"scan": file_sha256(first.path), "index": first.index})


def regions_key(
    image: str, region_maps: Mapping[str, Volume], plan: PreparePlan, flags: Sequence[str] = ()
) -> str:
    """SHA-256 of all that decides the regions of a case: its image's key, the maps, the flags.

    Raises
    ------
    DataError
        If a region is not the plan's.
    """
    names = present_regions(region_maps, plan)
    maps = [[name, volume_digest(region_maps[name])] for name in names]
    return _digest({"image": image, "regions": maps, "flags": list(flags)})


def present_regions(region_maps: Mapping[str, Volume], plan: PreparePlan) -> tuple[str, ...]:
    """Regions of the plan that a case has, in the plan's order.

    Raises
    ------
    DataError
        If a region is not the plan's.
    """
    unknown = set(region_maps) - set(plan.regions)
    if unknown:
        raise DataError(
            "regions",
            "unknown to the plan",
            expected=f"among {list(plan.regions)}",
            received=str(sorted(unknown)),
        )
    return tuple(name for name in plan.regions if name in region_maps)


def volume_digest(volume: Volume) -> str:
    """SHA-256 of voxels, their type and their affine."""
    array = np.ascontiguousarray(volume.array)
    head = json.dumps([array.dtype.str, array.shape, volume.affine.tolist()])
    return hashlib.sha256(head.encode() + array.data.cast("B")).hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
