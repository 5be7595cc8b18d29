"""Scoring predicted cases and painting what was found: what train and evaluate share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset
from segpipe.data.nifti import write_volume
from segpipe.errors import DataError, without_frames
from segpipe.evaluate.decision import decide
from segpipe.evaluate.operating_point import Choice
from segpipe.evaluate.score import LabelScore, score_labels
from segpipe.evaluate.summary import failed_row
from segpipe.evaluate.table import views_of_cases
from segpipe.files import temporary_folder
from segpipe.folders import error_without_folders
from segpipe.lesions.view import View
from segpipe.observer import Observer
from segpipe.pipeline.evaluation import Evaluation
from segpipe.pipeline.evaluation_document import make_document, score_settings, write_scores
from segpipe.pipeline.memory import within_memory
from segpipe.pipeline.models import Loaded
from segpipe.pipeline.outputs import painted_map, segment, write_case
from segpipe.pipeline.predict_document import PredictDocument
from segpipe.pipeline.predictions import Predicted, Prediction, predict_cases


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
    cases, failed = predicted.cases, dict(predicted.failed)
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
        try:
            if case.id not in failed:
                own = views.get(case.id, {})
                with within_memory(case):
                    prediction = predicted.prediction(case)
                    scores += _score_one(case, prediction, dataset, config, choice, own, document)
        except DataError as error:
            if config.predict.strict:
                raise
            failed[case.id] = without_frames(error)
            document.forget(case.id)
        if case.id in failed:
            document.fail(case, failed[case.id], 0.0)
        observer.progress(done, len(cases), f"scoring {case.id}")
    document.write()
    table = predicted.table[~predicted.table["case"].isin(list(failed))]
    rows = [score.row for score in scores]
    rows += [
        failed_row(case.id, label, error_without_folders(failed[case.id], case.files))
        for case in cases
        if case.id in failed
        for label in dataset.labels
    ]
    details = [score.detail for score in scores]
    scored = make_document(rows, details, cases, config, choice, table)
    write_scores(folder, scored, table)
    return Evaluation(folder, scored, table, choice, failed, selected)


def _score_one(
    case: Case,
    prediction: Prediction,
    dataset: Dataset,
    config: Config,
    choice: Choice,
    views: Mapping[str, View],
    document: PredictDocument,
) -> list[LabelScore]:
    grid, folder = prediction.reference, document.path.parent
    segmented = segment(
        prediction.probabilities,
        dataset.labels,
        choice.operating_point,
        connectivity=config.evaluate.connectivity,
        regions=prediction.regions,
        midline_x_mm=prediction.midline_x_mm,
    )
    entry = write_case(
        folder,
        case,
        prediction.probabilities,
        segmented,
        with_probabilities=False,
        region_names=tuple(prediction.regions),
        registration=prediction.registration,
        flags=prediction.flags,
        seconds=prediction.seconds,
    )
    document.add(entry)
    scores = score_labels(
        case.id,
        prediction.reference,
        prediction.probabilities,
        dataset.labels,
        score_settings(config, choice.operating_point),
        regions=prediction.regions or None,
        flags=prediction.flags,
        views=views,
    )
    painted = np.zeros(grid.shape, np.uint8)
    for score in scores:
        own = score.counts.painted(grid.shape)
        painted = np.where((painted == 0) | (painted == 3) & (own > 0), own, painted)
        if len(scores) > 1:
            value = dataset.labels[score.row["label"]]
            write_volume(painted_map(folder, case.id, value), grid.with_array(own))
    write_volume(painted_map(folder, case.id), grid.with_array(painted))
    return scores
