"""``segpipe score``: masks of anybody against references, file by file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from segpipe.data.nifti import align, read_labels, read_probability
from segpipe.errors import ConfigError, DataError
from segpipe.evaluate.froc import froc_by_label
from segpipe.evaluate.score import score_labels, tabulate
from segpipe.evaluate.settings import LabelValues, ScoreSettings
from segpipe.evaluate.summary import failed_row, score_document
from segpipe.evaluate.table import THRESHOLDS, component_table
from segpipe.lesions.view import View
from segpipe.parallel import Outcome, map_cases
from segpipe.pipeline.people import People
from segpipe.pipeline.score_files import (
    Declared,
    Pair,
    chosen_labels,
    declared_labels,
    pair_files,
    region_files,
)
from segpipe.pipeline.score_output import write_table
from segpipe.volume import Volume


@dataclass(frozen=True)
class Job:
    """What is the same for every pair.

    Parameters
    ----------
    settings : ScoreSettings
    labels : mapping
        Name to values; the order of probability maps.
    only : tuple of str
        The labels that are scored.
    closed : bool
        Whether values beside those of the labels are errors.
    regions : mapping or None
        Case to region to file; None: no regions wanted.
    soft : bool
        Whether predictions of 0 and 1 alone are probabilities: a map in which nothing was found
        cannot be told from a mask, but for the maps beside it.
    """

    settings: ScoreSettings
    labels: Mapping[str, LabelValues]
    only: tuple[str, ...]
    closed: bool
    regions: Mapping[str, Mapping[str, Path]] | None
    soft: bool = False


def run_score(
    references: Path,
    predictions: Path,
    settings: ScoreSettings,
    *,
    regions: Path | None = None,
    label: str | None = None,
    case_pattern: str | None = None,
    people: People | None = None,
    components: Path | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Score predictions against references.

    Parameters
    ----------
    references, predictions : Path
        Folders of NIfTI files that pair by case id, or one file each. ``dataset.json`` in the
        references' folder or its parent names the labels and the ignore label.
    settings : ScoreSettings
    regions : Path, optional
        Folder of region maps: ``CASE_REGION.nii.gz`` or ``REGION/CASE.nii.gz``.
    label : str, optional
        Name or value of the only label to score.
    case_pattern : str, optional
        Regular expression; its first group, or else the whole match, is the case id.
    people : People, optional
        Patients of the cases, and the columns by which figures are grouped.
    components : Path, optional
        Where to write the table of components, as ``.csv`` or ``.parquet``.
    workers : int
        Cases scored side by side.

    Returns
    -------
    dict
        The document of ``segpipe score --json``. A case that cannot be paired, read or compared
        is a failed row.

    Raises
    ------
    DataError
        If there is nothing to score, or the label, pattern, manifest or region folder is unknown.
    """
    pairs = pair_files(references, predictions, case_pattern)
    declared = declared_labels(references)
    if settings.ignore_label is None and declared and declared.ignore_label is not None:
        settings = settings.model_copy(update={"ignore_label": declared.ignore_label})
    labels = _all_labels(pairs, declared, settings)
    labels, only = chosen_labels(references, labels, label)
    maps = None if regions is None else region_files(regions, [pair.case for pair in pairs])
    job = Job(settings, labels, only, declared is not None and label is None, maps)
    rows, details, views = [], [], []
    for outcome in _score_all(job, pairs, workers):
        if outcome.error is not None:
            rows += [failed_row(outcome.item.case, name, str(outcome.error)) for name in only]
            continue
        for row, detail in outcome.value.rows:
            rows.append(row)
            details.append(detail)
        views += outcome.value.views
    table = component_table(views)
    if components is not None:
        write_table(components, table)
    people = people or People({}, {})
    cases = dict.fromkeys(detail["case"] for detail in details)
    patients = {case: people.patients.get(case, case) for case in cases}
    document = score_document(settings, rows, details, patients, people.groups)
    if people.patients:
        document["patients"] = patients
    curves = froc_by_label(table, patients, settings)
    return {**document, "froc": curves} if curves else document


def _score_all(job: Job, pairs: Sequence[Pair], workers: int) -> list[Outcome]:
    """Every pair; where one prediction is a probability map, so are maps of 0 and 1 alone."""
    outcomes = list(map_cases(partial(score_pair, job), pairs, workers=workers))
    scored = [one.value for one in outcomes if one.error is None]
    if not any(score.soft for score in scored):
        return outcomes
    again = [k for k, one in enumerate(outcomes) if one.error is None and one.value.unclear]
    soft = partial(score_pair, replace(job, soft=True))
    anew = map_cases(soft, [pairs[k] for k in again], workers=workers)
    for k, outcome in zip(again, anew, strict=True):
        outcomes[k] = outcome
    return outcomes


@dataclass(frozen=True, eq=False)
class PairScore:
    """What one pair yields.

    Parameters
    ----------
    rows : list of (dict, dict)
        A row and its details for every label.
    views : list of View
        Components: of a mask once, of probabilities at every threshold.
    soft : bool
        Whether the prediction was scored as probabilities.
    unclear : bool
        Whether it was scored as labels and holds nothing that a probability map could not.
    """

    rows: list[tuple[dict[str, Any], dict[str, Any]]]
    views: list[View]
    soft: bool
    unclear: bool


def score_pair(job: Job, pair: Pair) -> PairScore:
    """Read and score one pair."""
    if pair.problem is not None:
        raise pair.problem
    assert pair.reference is not None
    assert pair.prediction is not None
    reference = read_labels(pair.reference)
    prediction, flags = read_prediction(pair.prediction, strict=job.settings.strict)
    prediction = align(prediction, reference)
    unclear = prediction.array.dtype.kind != "f" and _could_be_probability(prediction.array, job)
    if unclear and job.soft:
        prediction = prediction.with_array(prediction.array.astype(np.float32))
    soft = prediction.array.dtype.kind == "f"
    if job.closed:
        _check_values(pair, reference, prediction, job)
    regions, noticed = _read_regions(job, pair.case, reference)
    views: list[View] = []
    if soft:
        views = tabulate(
            pair.case,
            reference,
            prediction,
            job.labels,
            job.settings,
            sorted({*THRESHOLDS, job.settings.threshold}),
            regions=regions,
            only=job.only,
        )
    scores = score_labels(
        pair.case,
        reference,
        prediction,
        job.labels,
        job.settings,
        regions=regions,
        only=job.only,
        flags=[*flags, *noticed],
        views={view.label: view for view in views if view.threshold == job.settings.threshold},
    )
    rows = [(score.row, score.detail) for score in scores]
    return PairScore(rows, views or [score.view for score in scores], soft, unclear and not soft)


def _could_be_probability(array: np.ndarray, job: Job) -> bool:
    """Whether 0 and 1 alone mean the same as labels and as probabilities of the only label."""
    if len(job.only) != 1 or array.min() < 0 or array.max() > 1:
        return False
    values = job.labels[job.only[0]]
    means_one = values is None or values == 1 or values == (1,)
    return means_one or not array.any()


def read_prediction(path: Path, *, strict: bool) -> tuple[Volume, tuple[str, ...]]:
    """Read labels or, where values are not whole numbers, probabilities.

    Raises
    ------
    DataError
        If it is neither; with ``strict`` also if a probability is NaN.
    """
    try:
        return read_labels(path), ()
    except DataError:
        return read_probability(path, strict=strict)


def _all_labels(
    pairs: Sequence[Pair], declared: Declared | None, settings: ScoreSettings
) -> dict[str, LabelValues]:
    if declared is not None:
        return dict(declared.labels)
    if settings.reference_instances:
        return {"lesion": None}
    ignored = {0, settings.ignore_label}
    references, predictions = set(), set()
    for pair in pairs:
        references |= _values(pair.reference) - ignored
        predictions |= _values(pair.prediction) - ignored
    found = references | predictions
    one_each = len(references) <= 1 and len(predictions) <= 1
    if one_each and (len(found) <= 1 or found == {1, 255}):
        return {"lesion": None}
    return {str(value): value for value in sorted(found)}


def _values(path: Path | None) -> set[int]:
    """The label values of a file; none for a file that is no label map."""
    if path is None:
        return set()
    try:
        return _values_of(read_labels(path).array)
    except DataError:
        return set()


def _values_of(array: np.ndarray) -> set[int]:
    if array.dtype.kind == "u":
        return set(np.flatnonzero(np.bincount(array.ravel())).tolist())
    return set(np.unique(array).tolist())


def _check_values(pair: Pair, reference: Volume, prediction: Volume, job: Job) -> None:
    known: set[int | None] = {0, job.settings.ignore_label}
    for values in job.labels.values():
        known |= set(values) if isinstance(values, tuple) else {values}
    sides: list[tuple[Path | None, Volume]] = []
    if not job.settings.reference_instances:
        sides.append((pair.reference, reference))
    if prediction.array.dtype.kind != "f":
        sides.append((pair.prediction, prediction))
    for path, volume in sides:
        unknown = sorted(_values_of(volume.array) - known)
        if unknown:
            raise DataError(
                path or pair.case,
                "label values that the dataset does not declare",
                expected=f"values among {sorted(v for v in known if v is not None)}",
                received=", ".join(str(value) for value in unknown[:10]),
                fix="Correct the file or the labels in dataset.json, or choose one with --label.",
            )


def _read_regions(
    job: Job, case: str, reference: Volume
) -> tuple[dict[str, np.ndarray] | None, list[str]]:
    if job.regions is None:
        return None, []
    files = job.regions.get(case, {})
    if not files:
        return None, ["no region maps for this case"]
    maps = {name: align(read_probability(path)[0], reference).array for name, path in files.items()}
    return maps, []


def make_settings(values: Mapping[str, Any]) -> ScoreSettings:
    """Settings from what a user typed.

    Raises
    ------
    ConfigError
        Naming every option that is out of range.
    """
    try:
        return ScoreSettings.model_validate(dict(values))
    except ValidationError as error:
        problems = [
            f"--{str(problem['loc'][0]).replace('_', '-')}: {problem['msg']}; received "
            f"{problem['input']!r}"
            for problem in error.errors()
        ]
        raise ConfigError("\n".join(problems)) from error
