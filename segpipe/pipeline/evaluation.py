"""Scoring trained models on cases with references: what train and evaluate share."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.anatomy import region_maps
from segpipe.config import Config, OperatingPoint
from segpipe.data.layouts import Case, Dataset
from segpipe.data.nifti import write_volume
from segpipe.data.read import LoadedCase, read_case
from segpipe.errors import DataError, SegpipeError
from segpipe.evaluate.operating_point import Choice, choose, false_positive_chance
from segpipe.evaluate.score import LabelScore, ScoreSettings, score_labels
from segpipe.evaluate.summary import failed_row, score_document
from segpipe.evaluate.table import THRESHOLDS, component_table, empty_table
from segpipe.files import replacing, write_text
from segpipe.observer import Observer
from segpipe.pipeline.models import Loaded
from segpipe.pipeline.outputs import midline_x_mm, segment, write_case
from segpipe.pipeline.predict import PredictDocument, unusual_spacing
from segpipe.pipeline.score_output import score_csv
from segpipe.predict.case import predict_scan
from segpipe.volume import Volume

FIGURES = (
    "dice",
    "lesion_sensitivity",
    "lesion_precision",
    "lesion_f1",
    "false_positive_regions",
    "false_positive_volume_ml",
    "hd95_mm",
    "surface_dice",
)
"""Scores whose means are tracked."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of cases.

    Parameters
    ----------
    folder : Path
        predict.json, masks, ``components/``, ``maps/``, scores.json, scores.csv,
        components.parquet and components.csv.
    document : dict
        What scores.json holds.
    table : DataFrame
        Of components.
    choice : Choice
        The operating point and why.
    failed : dict of str to SegpipeError
    """

    folder: Path
    document: dict[str, Any]
    table: pd.DataFrame
    choice: Choice
    failed: dict[str, SegpipeError]

    def validation_facts(self, config: Config, patients: int) -> dict[str, Any]:
        """What a bundle keeps of its validation."""
        summary = self.document["summary"]
        point = self.choice.operating_point
        return {
            "cases": max((part["cases"] for part in summary.values()), default=0),
            "patients": patients,
            "summary": {
                label: {k: v for k, v in part.items() if isinstance(v, dict) and "mean" in v}
                for label, part in summary.items()
            },
            "by_size": [
                {"label": label, **row}
                for label, part in summary.items()
                for row in part.get("by_size") or ()
            ],
            "false_positive_chance": [
                {"label": label, **row}
                for label in summary
                for row in false_positive_chance(
                    self.table[self.table["label"] == label], point, config.evaluate
                )
            ],
            "operating_point": self.choice.reason,
        }

    def figures(self) -> dict[str, float]:
        """Mean figures of every label for tracking, and the means over labels."""
        summary = self.document["summary"]
        found: dict[str, float] = {}
        for name in FIGURES:
            values = [part[name]["mean"] for part in summary.values() if part.get(name)]
            defined = [value for value in values if value is not None]
            found[name] = float(np.mean(defined)) if defined else float("nan")
            if len(summary) > 1:
                for label, part in summary.items():
                    value = part[name]["mean"] if part.get(name) else None
                    found[f"{label}.{name}"] = float("nan") if value is None else value
        return found


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
    scores_document = _document(scores, failed, dataset, cases, config, choice)
    _write(folder, scores_document, table)
    return Evaluation(folder, scores_document, table, choice, failed)


def pool(
    parts: Sequence[Evaluation], cases: Sequence[Case], config: Config, folder: Path
) -> Evaluation:
    """Out-of-fold scores of several folds as one: every case once, intervals over patients.

    Each fold keeps the operating point that it was scored at; the pooled document names the
    first and says that they may differ.
    """
    rows = [row for part in parts for row in part.document["rows"]]
    details = [detail for part in parts for detail in part.document["details"]]
    table = pd.concat([part.table for part in parts], ignore_index=True)
    first = parts[0].choice
    points = {part.choice.operating_point for part in parts}
    reason = first.reason if len(points) == 1 else "differs between folds; that of the first"
    choice = Choice(first.operating_point, first.figures, reason)
    settings = ScoreSettings.from_config(
        config.evaluate, choice.operating_point, ignore_label=config.data.ignore_label
    )
    patients = {case.id: case.patient for case in cases}
    document = score_document(settings, rows, details, patients)
    document["operating_point"] = _point(choice)
    document["patients"] = patients
    document["folds"] = [_point(part.choice) for part in parts]
    failed = {case: error for part in parts for case, error in part.failed.items()}
    _write(folder, document, table)
    return Evaluation(folder, document, table, choice, failed)


def _point(choice: Choice) -> dict[str, Any]:
    figures = {"reason": choice.reason, "figures": choice.figures}
    return {**choice.operating_point.model_dump(), **figures}


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
    np.save(store / f"{case.id}.npy", probabilities.array)
    regions, flags = _regions(case, scan, dataset, config)
    np.savez(store / f"{case.id}.npz", **regions)
    flags = (*scan.flags, *unusual_spacing(scan.image, loaded.bundle), *flags)
    facts = {"flags": flags, "midline": midline_x_mm(scan.image)}
    facts["seconds"] = time.perf_counter() - started
    (store / f"{case.id}.json").write_text(json.dumps(facts))
    return component_table(
        case.id,
        scan.reference,
        probabilities,
        dataset.labels,
        ScoreSettings.from_config(
            config.evaluate, OperatingPoint(), ignore_label=config.data.ignore_label
        ),
        regions=regions,
        thresholds=sorted({*THRESHOLDS, threshold}),
    )


def _score_one(case, dataset, config, choice, store: Path, document) -> list[LabelScore]:
    scan = _reference(case, dataset, config)
    probabilities = scan.with_array(np.load(store / f"{case.id}.npy"))
    with np.load(store / f"{case.id}.npz") as stored:
        regions = {name: stored[name] for name in stored.files}
    facts = json.loads((store / f"{case.id}.json").read_text())
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
        scan,
        probabilities,
        dataset.labels,
        ScoreSettings.from_config(
            config.evaluate, choice.operating_point, ignore_label=config.data.ignore_label
        ),
        regions=regions or None,
        flags=tuple(facts["flags"]),
    )
    painted = np.zeros(scan.shape, np.uint8)
    for score in scores:
        own = score.counts.painted(scan.shape)
        painted = np.where((painted == 0) | (painted == 3) & (own > 0), own, painted)
    write_volume(document.path.parent / f"maps/{case.id}.nii.gz", scan.with_array(painted))
    return scores


def _reference(case: Case, dataset: Dataset, config: Config) -> Volume:
    reference = read_case(case, dataset.labels, config.data).reference
    assert reference is not None  # the first pass scored it
    return reference


def _regions(case: Case, scan: LoadedCase, dataset: Dataset, config: Config):
    maps, flags = region_maps(
        case.id,
        scan.image,
        config.anatomy,
        dataset.root,
        tolerance_mm=config.data.grid_tolerance_mm,
    )
    return {name: volume.array for name, volume in maps.items()}, flags


def _document(scores, failed, dataset, cases, config, choice) -> dict[str, Any]:
    rows = [score.row for score in scores]
    rows += [
        failed_row(case, label, str(error))
        for case, error in failed.items()
        for label in dataset.labels
    ]
    settings = ScoreSettings.from_config(
        config.evaluate, choice.operating_point, ignore_label=config.data.ignore_label
    )
    document = score_document(
        settings,
        rows,
        [score.detail for score in scores],
        {case.id: case.patient for case in cases},
    )
    document["operating_point"] = _point(choice)
    document["patients"] = {case.id: case.patient for case in cases}
    return document


def _write(folder: Path, document: dict[str, Any], table: pd.DataFrame) -> None:
    write_text(folder / "scores.json", json.dumps(document, indent=1, ensure_ascii=False))
    write_text(folder / "scores.csv", score_csv(document))
    write_text(folder / "components.csv", table.to_csv(index=False))
    with replacing(folder / "components.parquet") as stream:
        table.to_parquet(stream, index=False)
