"""References of training patients in template space, made once per case and kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segpipe.anatomy.placement import map_on_template
from segpipe.anatomy.scan_brain import shrink
from segpipe.anatomy.template import template_lattice
from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset
from segpipe.data.nifti import file_sha256
from segpipe.data.read import read_case
from segpipe.errors import DataError, StorageError
from segpipe.observer import Observer
from segpipe.parallel import map_cases
from segpipe.pipeline.placements import (
    check_registration,
    find_placement,
    image_path,
    registration_facts,
)
from segpipe.prepare import StoredArray, store
from segpipe.prepare.voxels import pack
from segpipe.volume import Volume

FORMAT = 2
"""Part of every cache key: raise it whenever the same reference would come out otherwise."""

STEP_MM = 1.0
_FILE = "lesions.b2nd"


@dataclass(frozen=True)
class PlacedReferences:
    """References in template space, and the cases that are not among them.

    Parameters
    ----------
    counted : dict of str to tuple of Path
        Patient to entries of the cache, for :func:`read_placed`; both in order of names.
    left_out : dict of str to str
        Case id to the reason, such as a failed registration.
    """

    counted: dict[str, tuple[Path, ...]]
    left_out: dict[str, str]


def placed_references(
    cases: Sequence[Case], dataset: Dataset, config: Config, observer: Observer
) -> PlacedReferences:
    """Bring the references of cases to template space, each by the placement of its scan.

    Foreground is every label but the one to be ignored. What is in the cache is not read again.

    Parameters
    ----------
    cases : sequence of Case
        Those trained on, and no others.
    dataset : Dataset
    config : Config
    observer : Observer

    Raises
    ------
    ConfigError, DataError
        If no case could be registered as configured.
    StorageError
        If the cache cannot be written: that says nothing of a case.
    """
    check_registration(config.anatomy, dataset.channels, dataset.root)
    work = partial(_place, dataset=dataset, config=config)
    counted: dict[str, list[Path]] = {}
    left_out = {}
    ordered = sorted(cases, key=lambda case: (case.patient, case.id))
    outcomes = map_cases(work, ordered, workers=config.prepare.workers, scheduler=config.scheduler)
    for done, outcome in enumerate(outcomes, start=1):
        observer.progress(done, len(ordered), "placing references")
        if outcome.error is None:
            counted.setdefault(outcome.item.patient, []).append(outcome.value)
        elif isinstance(outcome.error, StorageError):
            raise outcome.error
        else:
            left_out[outcome.item.id] = str(outcome.error)
    return PlacedReferences({p: tuple(paths) for p, paths in counted.items()}, left_out)


def read_placed(folder: Path) -> Volume:
    """How much of each voxel of template space is lesion: (X, Y, Z) float32 in [0, 1]."""
    return template_lattice(STEP_MM).with_array(np.asarray(StoredArray(folder / _FILE)))


def _place(case: Case, *, dataset: Dataset, config: Config) -> Path:
    """Entry of a case in the cache.

    Raises
    ------
    DataError, GeometryError
        If the case has no reference, cannot be read, or its scan has no place in the space.
    """
    if case.reference is None:
        raise DataError(case.id, "no reference")
    cache = config.cache
    key = _key(case, case.reference, dataset, config)
    folder = store.find(cache, key)
    if folder is not None:
        return folder
    loaded = read_case(case, dataset.labels, config.data)
    placement = find_placement(loaded.image, dataset.channels, config.anatomy, dataset.root, cache)
    assert loaded.reference is not None
    assert placement is not None
    if placement.problem:
        raise DataError(case.id, placement.words())
    labels = loaded.reference.array
    lesions = (labels != 0) & (labels != config.data.ignore_label)
    # finer voxels are averaged first, as the lattice would read only those near its own centres
    share = shrink(loaded.reference.with_array(lesions.astype(np.float32)), STEP_MM)
    placed = map_on_template(share, placement, template_lattice(STEP_MM))
    return store.put(cache, key, {_FILE: pack(placed)})


def _key(case: Case, reference: Path, dataset: Dataset, config: Config) -> str:
    """SHA-256 of all that decides a case's lesions in template space."""
    settings = config.anatomy.registration
    content = {
        "lesions": [FORMAT, STEP_MM],
        "reference": file_sha256(reference),
        "channels": [[file_sha256(file.path), file.index] for file in case.channels],
        "names": dataset.channels,
        "registered": settings.channel,
        "labels": sorted(dataset.labels.values()),
        "read": config.data.model_dump(
            mode="json", include={"ignore_label", "repair_nan", "grid_tolerance_mm"}
        ),
        **registration_facts(image_path(settings, dataset.root), settings),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
