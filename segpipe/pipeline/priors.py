"""Lesion frequency of a fold's training patients: made when training, kept in the bundle."""

from __future__ import annotations

from functools import partial

from segpipe.anatomy import check_space, frequency_files, frequency_map, read_mask
from segpipe.config import Config, RegionConfig
from segpipe.data.layouts import Dataset
from segpipe.data.splits import Fold
from segpipe.errors import DataError
from segpipe.observer import Observer
from segpipe.pipeline.references import placed_references, read_placed
from segpipe.volume import Volume


def fold_priors(
    dataset: Dataset, fold: Fold, config: Config, observer: Observer
) -> dict[str, Volume]:
    """Lesion frequency by region, from patients that the fold trains on or does not know.

    A region without a folder of masks takes the references of the patients that the fold trains
    on. Held out are all patients of the dataset that are not trained on, and all of test cases.

    Returns
    -------
    dict of str to Volume
        Region name to (X, Y, Z) float32 in template space, smoothed. A region that no patient is
        left for, or an optional one whose folder has no masks, is not among them; that is told.

    Raises
    ------
    DataError
        If a folder has no masks (unless the region is optional), or one cannot be read.
    GeometryError
        If the masks of a folder do not lie on one grid, or on one that misses the template's
        brain.
    ConfigError
        If no case could be registered as configured.
    """
    regions = [region for region in config.anatomy.regions if region.source == "frequency"]
    own = [region for region in regions if region.file is None]
    maps = _from_references(own, dataset, fold, config, observer) if own else {}
    for region in regions:
        if region.file is not None:
            maps |= _from_folder(region, region.file, dataset, fold, config, observer)
    return maps


def _from_references(
    regions: list[RegionConfig], dataset: Dataset, fold: Fold, config: Config, observer: Observer
) -> dict[str, Volume]:
    training, tested = set(fold.train), {case.patient for case in dataset.test_cases}
    cases = [c for c in dataset.cases if c.id in training and c.patient not in tested]
    placed = placed_references(cases, dataset, config, observer)
    for reason in placed.left_out.values():
        observer.message(f"fold {fold.index}: lesion frequency goes without {reason}")
    maps = {}
    for region in regions:
        if placed.counted:
            maps[region.name] = frequency_map(placed.counted, region.soften_mm, read_placed)
        observer.message(
            f"fold {fold.index}: lesion frequency for region {region.name} from the references of "
            f"{len(placed.counted)} patients; left out: {', '.join(placed.left_out) or 'none'}"
        )
    return maps


def _from_folder(
    region: RegionConfig,
    folder: str,
    dataset: Dataset,
    fold: Fold,
    config: Config,
    observer: Observer,
) -> dict[str, Volume]:
    training = set(fold.train)
    cases = (*dataset.cases, *dataset.test_cases)
    trained = {case.patient for case in dataset.cases if case.id in training}
    apart = [case for case in dataset.cases if case.patient not in trained]
    out = {name for case in (*apart, *dataset.test_cases) for name in (case.id, case.patient)}
    patients = {case.id: case.patient for case in cases}
    pattern = config.data.patient_pattern
    try:
        files = frequency_files(dataset.root / folder, out, patients, pattern)
    except DataError as error:
        if not region.optional:
            raise
        observer.message(f"fold {fold.index}: region {region.name} left out: {error}")
        return {}
    observer.message(
        f"fold {fold.index}: lesion frequency for region {region.name} from "
        f"{len(files.counted)} patients; held out: {', '.join(files.held_out) or 'none'}"
    )
    if not files.counted:
        return {}
    most = config.data.max_voxels
    check_space(next(iter(files.counted.values()))[0], most)  # the others must lie on its grid
    read = partial(read_mask, max_voxels=most)
    return {region.name: frequency_map(files.counted, region.soften_mm, read)}
