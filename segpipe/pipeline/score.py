"""``segpipe score``: masks of anybody against references, file by file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segpipe.data.nifti import MAX_VOXELS, read_labels
from segpipe.errors import ConfigError, DataError, GeometryError
from segpipe.evaluate.froc import froc_by_label
from segpipe.evaluate.settings import LabelValues, ScoreSettings
from segpipe.evaluate.summary import failed_row, score_document
from segpipe.evaluate.table import component_table, table_digest
from segpipe.observer import Observer, Silent
from segpipe.parallel import Outcome, map_cases
from segpipe.pipeline.people import People, patients_of
from segpipe.pipeline.score_files import Pair, pair_files, region_files
from segpipe.pipeline.score_labels import Declared, chosen_labels, declared_labels
from segpipe.pipeline.score_output import expect_table_name, write_document, write_table
from segpipe.pipeline.score_pair import Job, label_values, score_pair

MOST_LABELS = 100
"""Values of undeclared labels in all files together: an image has more."""

STRANGER = "not in the manifest: counts as a patient of its own, in no group"


def run_score(
    references: Path,
    predictions: Path,
    settings: ScoreSettings,
    *,
    regions: Path | None = None,
    label: str | None = None,
    case_pattern: str | None = None,
    people: People | None = None,
    json: Path | None = None,
    components: Path | None = None,
    max_voxels: int = MAX_VOXELS,
    workers: int = 1,
    observer: Observer | None = None,
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
        Patients of the cases, and the columns by which figures are grouped. A case that they lack
        is flagged.
    json : Path, optional
        Where to write the document.
    components : Path, optional
        Where to write the table of components, as ``.csv`` or ``.parquet``.
    max_voxels : int
        Files that claim more are refused before allocation; their cases fail.
    workers : int
        Cases scored side by side.
    observer : Observer, optional
        Hears how far it is.

    Returns
    -------
    dict
        The document of ``segpipe score --json``. A case that cannot be paired, read or compared
        is a failed row.

    Raises
    ------
    DataError
        If there is nothing to score, the label, pattern, manifest or region folder is unknown,
        the manifest has none of the cases, numbered lesions are to be scored as several labels, or
        the name of the table of components says no known kind.
    """
    if components is not None:
        expect_table_name(components)
    observer = observer or Silent()
    pairs = pair_files(references, predictions, case_pattern)
    strangers = people.missing([pair.case for pair in pairs]) if people else set()
    declared = declared_labels(references)
    if settings.ignore_label is None and declared and declared.ignore_label is not None:
        settings = settings.model_copy(update={"ignore_label": declared.ignore_label})
    labels, found = _all_labels(pairs, declared, settings, max_voxels, observer)
    labels, only = chosen_labels(references, labels, label, found)
    if settings.reference_instances and len(only) > 1:
        raise DataError(
            references,
            "numbered lesions do not say which label they belong to",
            expected="one label to score",
            received=", ".join(only),
            fix="Choose one with --label, or score without --reference-instances.",
        )
    maps = None if regions is None else region_files(regions, [pair.case for pair in pairs])
    closed = declared is not None and label is None
    job = Job(settings, labels, only, closed, maps, max_voxels=max_voxels)
    rows, details, views = [], [], []
    for outcome in _score_all(job, pairs, workers, observer):
        if outcome.error is not None:
            rows += [failed_row(outcome.item.case, name, str(outcome.error)) for name in only]
            continue
        for row, detail in outcome.value.rows:
            strange = [STRANGER] if row["case"] in strangers else []
            rows.append({**row, "flags": [*row["flags"], *strange]})
            details.append(detail)
        views += outcome.value.views
    table = component_table(views)
    known = people.patients if people else {}
    cases = dict.fromkeys(detail["case"] for detail in details)
    patients = patients_of(cases, known, people.source if people else references)
    document = score_document(settings, rows, details, patients, people.groups if people else None)
    if known:
        document["patients"] = patients
    curves = froc_by_label(table, patients, settings)
    if curves:
        document["froc"] = curves
    document["components_digest"] = table_digest(table)
    if json is not None:
        write_document(json, document)
    if components is not None:
        write_table(components, table)
    return document


def _score_all(job: Job, pairs: Sequence[Pair], workers: int, observer: Observer) -> list[Outcome]:
    """Every pair; where one prediction is a probability map, so are maps of 0 and 1 alone."""

    def score(job: Job, pairs: Sequence[Pair]) -> list[Outcome]:
        outcomes = []
        for outcome in map_cases(partial(score_pair, job), pairs, workers=workers):
            outcomes.append(outcome)
            observer.progress(len(outcomes), len(pairs), f"scoring {outcome.item.case}")
        return outcomes

    outcomes = score(job, pairs)
    scored = [one.value for one in outcomes if one.error is None]
    if not any(score.soft for score in scored):
        return outcomes
    again = [k for k, one in enumerate(outcomes) if one.error is None and one.value.unclear]
    anew = score(replace(job, soft=True), [pairs[k] for k in again])
    for k, outcome in zip(again, anew, strict=True):
        outcomes[k] = outcome
    return outcomes


def _all_labels(
    pairs: Sequence[Pair],
    declared: Declared | None,
    settings: ScoreSettings,
    max_voxels: int,
    observer: Observer,
) -> tuple[dict[str, LabelValues], set[int] | None]:
    """Every label, and the values that were found; None where nobody looked."""
    if declared is not None:
        return dict(declared.labels), None
    if settings.reference_instances:
        return {"lesion": None}, None
    ignored = {0, settings.ignore_label}
    references, predictions = set(), set()
    for done, pair in enumerate(pairs, start=1):
        references |= _values(pair.reference, max_voxels) - ignored
        predictions |= _values(pair.prediction, max_voxels) - ignored
        if len(references | predictions) > MOST_LABELS:
            raise DataError(
                pair.case,
                "too many values for a label map",
                expected=f"at most {MOST_LABELS} values in all files",
                received=f"{len(references | predictions)} so far",
                fix="Is this an image, not a mask? Numbered lesions are scored with "
                "--reference-instances, one value with --label, many labels with a dataset.json.",
            )
        observer.progress(done, len(pairs), "looking for labels")
    found = references | predictions
    one_each = len(references) <= 1 and len(predictions) <= 1
    if one_each and (len(found) <= 1 or found == {1, 255}):
        return {"lesion": None}, found
    return {str(value): value for value in sorted(found)}, found


def _values(path: Path | None, max_voxels: int) -> set[int]:
    """The label values of a file; none for a file that is no label map."""
    if path is None:
        return set()
    try:
        return label_values(read_labels(path, max_voxels=max_voxels).array)
    except (DataError, GeometryError):  # told when the pair is scored
        return set()


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
            f"--{str(problem['loc'][0]).replace('_', '-')}: "
            f"{problem['msg'].removeprefix('Value error, ')}; received {problem['input']!r}"
            for problem in error.errors()
        ]
        raise ConfigError("\n".join(problems)) from error
