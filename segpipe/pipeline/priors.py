"""Lesion frequency of a fold's training patients: made when training, kept in the bundle."""

from __future__ import annotations

from segpipe.anatomy import frequency_files, frequency_map
from segpipe.config import Config
from segpipe.data.layouts import Dataset
from segpipe.data.splits import Fold
from segpipe.errors import DataError
from segpipe.observer import Observer
from segpipe.volume import Volume


def fold_priors(
    dataset: Dataset, fold: Fold, config: Config, observer: Observer
) -> dict[str, Volume]:
    """Lesion frequency by region, from patients that the fold trains on or does not know.

    Held out are all patients of the dataset, test cases included, that are not trained on.

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
        If the masks of a folder do not lie on one grid.
    """
    training = set(fold.train)
    cases = (*dataset.cases, *dataset.test_cases)
    trained = {case.patient for case in dataset.cases if case.id in training}
    out = {
        name for case in cases if case.patient not in trained for name in (case.id, case.patient)
    }
    patients = {case.id: case.patient for case in cases}
    maps = {}
    for region in config.anatomy.regions:
        if region.source != "frequency":
            continue
        try:
            files = frequency_files(
                dataset.root / (region.file or ""), out, patients, config.data.patient_pattern
            )
        except DataError as error:
            if not region.optional:
                raise
            observer.message(f"fold {fold.index}: region {region.name} left out: {error}")
            continue
        if files.counted:
            maps[region.name] = frequency_map(files.counted, region.soften_mm)
        observer.message(
            f"fold {fold.index}: lesion frequency for region {region.name} from "
            f"{len(files.counted)} patients; held out: {', '.join(files.held_out) or 'none'}"
        )
    return maps
