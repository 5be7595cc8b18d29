"""Predicting and scoring cases with references: what train and evaluate share."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.config import Config, OperatingPoint
from segpipe.data.layouts import Case, Dataset
from segpipe.data.nifti import read_grid, write_volume
from segpipe.data.read import read_case
from segpipe.errors import DataError, SegpipeError
from segpipe.evaluate.operating_point import Choice, choose
from segpipe.evaluate.score import LabelScore, score_labels
from segpipe.evaluate.summary import failed_row
from segpipe.evaluate.table import THRESHOLDS, component_table, empty_table
from segpipe.observer import Observer
from segpipe.pipeline.evaluation import (
    Evaluation,
    make_document,
    score_settings,
    write_scores,
)
from segpipe.pipeline.models import Loaded
from segpipe.pipeline.outputs import midline_x_mm, segment, write_case
from segpipe.pipeline.predict import PredictDocument, unusual_spacing
from segpipe.pipeline.prepare import dataset_regions
from segpipe.predict.case import predict_scan


def evaluate_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    config: Config,
    loaded: Loaded,
    folder: Path,
    observer: Observer,
    *,
    point: OperatingPoint | None,
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
    point : OperatingPoint or None
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
    folder.mkdir(parents=True, exist_ok=True)
    fixed = point or config.predict.operating_point
    failed: dict[str, SegpipeError] = {}
    tables = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".probabilities-") as temporary:
        store = Path(temporary)
        for done, case in enumerate(cases, start=1):
            try:
                tables.append(
                    _predict_and_tabulate(case, dataset, config, loaded, store, fixed.threshold)
                )
            except SegpipeError as error:
                if config.predict.strict:
                    raise
                failed[case.id] = error
            observer.progress(done, len(cases), f"predicting {case.id}")
        table = pd.concat([t for t in tables if len(t)] or [empty_table()], ignore_index=True)
        choice = _choice(table, config, cases, failed, point, loaded)
        document = PredictDocument(folder, loaded, choice.operating_point)
        scores: list[LabelScore] = []
        for done, case in enumerate(cases, start=1):
            if case.id in failed:
                document.fail(case, failed[case.id], 0.0)
            else:
                scores += _score_one(case, dataset, config, choice, store, document)
            observer.progress(done, len(cases), f"scoring {case.id}")
        document.write()
    rows = [score.row for score in scores]
    rows += [
        failed_row(case, label, str(error))
        for case, error in failed.items()
        for label in dataset.labels
    ]
    scored = make_document(rows, [score.detail for score in scores], cases, config, choice)
    write_scores(folder, scored, table)
    return Evaluation(folder, scored, table, choice, failed)


def _choice(table, config, cases, failed, point, loaded) -> Choice:
    usable = [case.id for case in cases if case.id not in failed]
    if point is None:
        return choose(table, config.evaluate, usable, config.predict.operating_point)
    fixed = config.evaluate.model_copy(update={"choose": "fixed"})
    choice = choose(table, fixed, usable, point)
    return Choice(choice.operating_point, choice.figures, "the bundle's, chosen on validation")


def _predict_and_tabulate(
    case, dataset, config, loaded, store: Path, threshold: float
) -> pd.DataFrame:
    started = time.perf_counter()
    scan = read_case(case, dataset.labels, config.data)
    if scan.reference is None:
        raise DataError(case.id, "no reference", fix="Add the expert's mask, or leave it out.")
    probabilities = predict_scan(scan.image, loaded.models)
    maps, flags = dataset_regions(case, scan.image, dataset, config)
    regions = {name: volume.array for name, volume in maps.items()}
    np.save(store / f"{case.id}.npy", probabilities.array)
    np.save(store / f"{case.id}.reference.npy", scan.reference.array)
    stacked = np.stack(list(regions.values())) if regions else np.zeros((0, *scan.image.shape))
    np.save(store / f"{case.id}.regions.npy", stacked)
    flags = (*scan.flags, *unusual_spacing(scan.image, loaded.bundle), *flags)
    facts = {"flags": flags, "midline": midline_x_mm(scan.image), "regions": list(regions)}
    facts["seconds"] = time.perf_counter() - started
    (store / f"{case.id}.json").write_text(json.dumps(facts))
    return component_table(
        case.id,
        scan.reference,
        probabilities,
        dataset.labels,
        score_settings(config, OperatingPoint()),
        regions=regions,
        thresholds=sorted({*THRESHOLDS, threshold}),
    )


def _score_one(case, dataset, config, choice, store: Path, document) -> list[LabelScore]:
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
    )
    painted = np.zeros(grid.shape, np.uint8)
    for score in scores:
        own = score.counts.painted(grid.shape)
        painted = np.where((painted == 0) | (painted == 3) & (own > 0), own, painted)
    write_volume(document.path.parent / f"maps/{case.id}.nii.gz", grid.with_array(painted))
    return scores
