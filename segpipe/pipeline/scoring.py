"""Predicting and scoring cases with references: what train and evaluate share."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.config import Config, OperatingPoint
from segpipe.data.layouts import Case, Dataset
from segpipe.data.nifti import read_grid, write_volume
from segpipe.data.read import read_case
from segpipe.errors import DataError, SegpipeError, StorageError
from segpipe.evaluate.decision import decide
from segpipe.evaluate.operating_point import Choice
from segpipe.evaluate.score import LabelScore, score_labels, tabulate
from segpipe.evaluate.summary import failed_row
from segpipe.evaluate.table import THRESHOLDS, component_table, views_of_cases
from segpipe.files import temporary_folder
from segpipe.folders import error_without_folders
from segpipe.lesions.view import View
from segpipe.observer import Observer
from segpipe.pipeline.evaluation import Evaluation
from segpipe.pipeline.evaluation_document import make_document, score_settings, write_scores
from segpipe.pipeline.models import Loaded
from segpipe.pipeline.outputs import midline_x_mm, painted_map, segment, write_case
from segpipe.pipeline.predict_document import PredictDocument
from segpipe.pipeline.regions import dataset_regions
from segpipe.pipeline.unusual import unusual
from segpipe.predict.case import predict_scan
from segpipe.prepare import prepare_volume


@dataclass(frozen=True, eq=False)
class Predicted:
    """Cases with their probabilities on disk and their components in a table.

    Parameters
    ----------
    store : Path
        Probabilities, references and regions, case by case.
    table : DataFrame
        Of components, at every threshold.
    cases : tuple of Case
        All of them, failed ones included.
    failed : dict of str to SegpipeError
    """

    store: Path
    table: pd.DataFrame
    cases: tuple[Case, ...]
    failed: dict[str, SegpipeError]

    @property
    def patients(self) -> dict[str, str]:
        """The cases that did not fail, to their patients."""
        return {case.id: case.patient for case in self.cases if case.id not in self.failed}


def evaluate_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    config: Config,
    loaded: Loaded,
    folder: Path,
    observer: Observer,
    *,
    given: Choice | None,
) -> Evaluation:
    """Predict, tabulate, choose the operating point, score, paint.

    Parameters
    ----------
    cases : sequence of Case
        With references.
    dataset : Dataset
    config : Config
    loaded : Loaded
    folder : Path
        For everything that is written.
    observer : Observer
    given : Choice or None
        None: chosen on these cases as ``evaluate.choose`` says.

    Returns
    -------
    Evaluation
        A failed case is a row with its error.

    Raises
    ------
    SegpipeError
        The first failure, with ``predict.strict``.
    """
    with temporary_folder(config.output / config.name) as store:
        point = given.operating_point if given else config.predict.operating_point
        predicted = predict_cases(cases, dataset, config, loaded, store, observer, point=point)
        obstacle = None
        if loaded.selected:
            obstacle = (
                "not certified: the weights were chosen on these patients (train.keep, "
                "train.patience)"
            )
        elif loaded.trained_otherwise is not None:
            obstacle = (
                f"not certified: the network was trained in {loaded.trained_otherwise}, and this "
                f"device predicts in {loaded.device.precision}"
            )
        choice = given or choose_point(
            predicted.table, predicted.patients, config, obstacle=obstacle
        )
        selected = given is None and loaded.selected
        return score_cases(
            predicted,
            choice,
            dataset,
            config,
            loaded,
            folder,
            observer,
            selected=selected,
            of_validation=given is None,
        )


def choose_point(
    table: pd.DataFrame,
    patients: Mapping[str, str],
    config: Config,
    *,
    obstacle: str | None = None,
) -> Choice:
    """The operating point that validation cases speak for, and what they can certify.

    Parameters
    ----------
    table : DataFrame
        Components of the cases.
    patients : mapping of str to str
        The cases to their patients.
    config : Config
    obstacle : str, optional
        Why these cases cannot calibrate.
    """
    return decide(
        table,
        config.evaluate,
        patients,
        config.predict.operating_point,
        seed=config.split.seed,
        obstacle=obstacle,
    )


def predict_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    config: Config,
    loaded: Loaded,
    store: Path,
    observer: Observer,
    *,
    point: OperatingPoint,
) -> Predicted:
    """Predict and tabulate; ``point`` is a threshold that the table shall have in any case."""
    failed: dict[str, SegpipeError] = {}
    views: list[View] = []
    for done, case in enumerate(cases, start=1):
        try:
            views += _predict_and_tabulate(case, dataset, config, loaded, store, point.threshold)
        except SegpipeError as error:
            if config.predict.strict or isinstance(error, StorageError):
                raise
            failed[case.id] = error
        observer.progress(done, len(cases), f"predicting {case.id}")
    return Predicted(store, component_table(views), tuple(cases), failed)


def score_cases(
    predicted: Predicted,
    choice: Choice,
    dataset: Dataset,
    config: Config,
    loaded: Loaded,
    folder: Path,
    observer: Observer,
    *,
    selected: bool,
    of_validation: bool,
) -> Evaluation:
    """Score, paint and write what was predicted, at an operating point.

    ``selected``: whether the cases chose the weights. ``of_validation``: whether the bundle's
    figures are to be theirs.
    """
    cases, failed = predicted.cases, predicted.failed
    document = PredictDocument(
        folder,
        loaded,
        choice.operating_point,
        config.evaluate.connectivity,
        of_validation=of_validation,
    )
    views = views_of_cases(predicted.table, choice.operating_point.threshold)
    scores: list[LabelScore] = []
    for done, case in enumerate(cases, start=1):
        if case.id in failed:
            document.fail(case, failed[case.id], 0.0)
        else:
            own = views.get(case.id, {})
            scores += _score_one(case, dataset, config, choice, predicted.store, own, document)
        observer.progress(done, len(cases), f"scoring {case.id}")
    document.write()
    rows = [score.row for score in scores]
    rows += [
        failed_row(case.id, label, error_without_folders(failed[case.id], case.files))
        for case in cases
        if case.id in failed
        for label in dataset.labels
    ]
    details = [score.detail for score in scores]
    scored = make_document(rows, details, cases, config, choice, predicted.table)
    write_scores(folder, scored, predicted.table)
    return Evaluation(folder, scored, predicted.table, choice, failed, selected)


def _predict_and_tabulate(
    case, dataset, config, loaded, store: Path, threshold: float
) -> list[View]:
    started = time.perf_counter()
    scan = read_case(case, dataset.labels, config.data)
    if scan.reference is None:
        raise DataError(case.id, "no reference", fix="Add the expert's mask, or leave it out.")
    prepared = prepare_volume(scan.image, loaded.bundle.plan)
    probabilities = predict_scan(scan.image, loaded.models, prepared=prepared)
    found = dataset_regions(case, scan.image, dataset, config, loaded.priors)
    regions = found.arrays
    np.save(store / f"{case.id}.npy", probabilities.array)
    np.save(store / f"{case.id}.reference.npy", scan.reference.array)
    stacked = np.stack(list(regions.values())) if regions else np.zeros((0, *scan.image.shape))
    np.save(store / f"{case.id}.regions.npy", stacked)
    flags = (*scan.flags, *unusual(prepared, loaded.bundle), *found.flags)
    facts = {
        "flags": flags,
        "midline": midline_x_mm(scan.image),
        "regions": list(regions),
        "registration": found.registration,
        "seconds": time.perf_counter() - started,
    }
    (store / f"{case.id}.json").write_text(json.dumps(facts))
    return tabulate(
        case.id,
        scan.reference,
        probabilities,
        dataset.labels,
        score_settings(config, OperatingPoint()),
        sorted({*THRESHOLDS, threshold}),
        regions=regions,
    )


def _score_one(
    case, dataset, config, choice: Choice, store: Path, views: Mapping[str, View], document
) -> list[LabelScore]:
    grid = read_grid(case.channels[0].path, max_voxels=config.data.max_voxels)
    reference = grid.with_array(np.load(store / f"{case.id}.reference.npy"))
    probabilities = grid.with_array(np.load(store / f"{case.id}.npy"))
    facts = json.loads((store / f"{case.id}.json").read_text())
    stacked = np.load(store / f"{case.id}.regions.npy")
    regions = dict(zip(facts["regions"], stacked, strict=True))
    segmented = segment(
        probabilities,
        dataset.labels,
        choice.operating_point,
        connectivity=config.evaluate.connectivity,
        regions=regions,
        midline_x_mm=facts["midline"],
    )
    entry = write_case(
        document.path.parent,
        case,
        probabilities,
        segmented,
        with_probabilities=False,
        region_names=tuple(regions),
        registration=facts["registration"],
        flags=tuple(facts["flags"]),
        seconds=facts["seconds"],
    )
    document.add(entry)
    scores = score_labels(
        case.id,
        reference,
        probabilities,
        dataset.labels,
        score_settings(config, choice.operating_point),
        regions=regions or None,
        flags=tuple(facts["flags"]),
        views=views,
    )
    folder = document.path.parent
    painted = np.zeros(grid.shape, np.uint8)
    for score in scores:
        own = score.counts.painted(grid.shape)
        painted = np.where((painted == 0) | (painted == 3) & (own > 0), own, painted)
        if len(scores) > 1:
            value = dataset.labels[score.row["label"]]
            write_volume(painted_map(folder, case.id, value), grid.with_array(own))
    write_volume(painted_map(folder, case.id), grid.with_array(painted))
    return scores
