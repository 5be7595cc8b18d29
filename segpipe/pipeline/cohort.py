"""From an evaluation to its reports, and both to whoever observes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset
from segpipe.data.nifti import read_labels
from segpipe.data.read import CaseReader
from segpipe.errors import DataError, SegpipeError
from segpipe.evaluate.summary import SCORES_DOCUMENT
from segpipe.files import write_text
from segpipe.model.bundle import Bundle, load_bundle
from segpipe.observer import Observer
from segpipe.pipeline.card import card_facts, write_card
from segpipe.pipeline.compare import compare_runs
from segpipe.pipeline.evaluation import Evaluation
from segpipe.pipeline.outputs import painted_map
from segpipe.pipeline.report import make_reports
from segpipe.pipeline.scored_runs import ScoredRun, scored_run
from segpipe.report.card import card_sections
from segpipe.report.cohort import CasePicture, CohortInputs, cohort_report, pick_cases
from segpipe.report.comparison import ComparisonInputs
from segpipe.report.document import PREDICT_DOCUMENT
from segpipe.report.gallery import paint_case

PATIENT_REPORTS = 6
"""Patient reports that an evaluation brings along: its worst and best cases."""

WORST_SLICES = 3
"""Slices at the most of a case with most false-positive regions; a best case has one."""


def publish_evaluation(
    evaluation: Evaluation,
    cases: Sequence[Case],
    dataset: Dataset,
    config: Config,
    bundle: Path,
    observer: Observer,
    *,
    baseline: ScoredRun | None = None,
) -> Path:
    """Write the cohort report and some patient reports; hand everything to the observer.

    Parameters
    ----------
    evaluation : Evaluation
    cases : sequence of Case
        Those that were evaluated, failed ones included.
    dataset : Dataset
    config : Config
    bundle : Path
        Folder of the (first) bundle.
    observer : Observer
    baseline : ScoredRun or None
        A run on the same cases to compare with.

    Returns
    -------
    Path
        The cohort report.
    """
    figures = {f"scores/{name}": value for name, value in evaluation.figures().items()}
    observer.metrics(figures, step=0)
    point = evaluation.choice.operating_point
    observer.metrics({"threshold": point.threshold, "min_size_mm3": point.min_size_mm3}, step=0)
    page = evaluation.folder / "cohort.html"
    described = load_bundle(bundle)
    inputs = _inputs(evaluation, cases, dataset, config, described)
    if baseline is not None:
        inputs = replace(inputs, baseline=_against(baseline, evaluation, observer))
    write_text(page, cohort_report(inputs))
    observer.artifact(page)
    observer.artifact(write_card(bundle, evaluation.folder))
    for name in (SCORES_DOCUMENT, "scores.csv", "components.parquet", "components.csv"):
        observer.artifact(evaluation.folder / name, "evaluation")
    if (evaluation.folder / PREDICT_DOCUMENT).is_file():
        chosen = _extremes(evaluation)[:PATIENT_REPORTS]
        if chosen:
            make_reports(
                evaluation.folder,
                chosen,
                now=datetime.now(),
                with_pdf=False,
                with_viewer=False,
                observer=observer,
            )
    observer.message(f"report: {page}")
    return page


def _extremes(evaluation: Evaluation) -> list[str]:
    rows = evaluation.document["rows"]
    labels = dict.fromkeys(row["label"] for row in rows)
    picked = [case for label in labels for case, _ in pick_cases(rows, label)]
    return list(dict.fromkeys(picked))


def _inputs(
    evaluation: Evaluation,
    cases: Sequence[Case],
    dataset: Dataset,
    config: Config,
    bundle: Bundle,
) -> CohortInputs:
    choice = evaluation.choice
    found, excluded = _flow(dataset, cases)
    told = {**evaluation.validation_facts(config), "which": _which(dataset, cases)}
    at = {"operating_point": choice.operating_point, "validation": told}
    facts = card_facts(bundle.model_copy(update=at))
    return CohortInputs(
        name=config.name,
        reported=f"{datetime.now():%Y-%m-%d}",
        found=found,
        excluded=excluded,
        document=evaluation.document,
        curve=evaluation.curve(config),
        point=choice.operating_point.model_dump(),
        chosen_by=choice.reason,
        certificate=choice.certificate_document,
        steps=choice.steps,
        gain=choice.gain,
        pictures=_pictures(evaluation, cases, dataset, config),
        card=card_sections(facts),
    )


def _against(
    baseline: ScoredRun, evaluation: Evaluation, observer: Observer
) -> ComparisonInputs | None:
    """This evaluation (B) against the baseline (A); None where they turn out not to compare."""
    mine = scored_run("this evaluation", evaluation.document, evaluation.table)
    try:
        document = compare_runs(baseline, mine)
    except DataError as error:  # after hours: the evaluation itself stands
        observer.message(f"warning: not compared with the baseline: {error}")
        return None
    return ComparisonInputs(
        reported=f"{datetime.now():%Y-%m-%d}",
        document=document,
        rows_a=baseline.all_rows(),
        rows_b=mine.all_rows(),
    )


def _flow(dataset: Dataset, cases: Sequence[Case]) -> tuple[int, list[tuple[str | int, str]]]:
    """How many cases the dataset has, and who of them was not to be evaluated, with why."""
    chosen = {case.id for case in cases}
    known = {case.id for case in dataset.cases}
    rest = len(known - chosen)
    bare = [c.id for c in dataset.test_cases if c.id not in chosen and c.reference is None]
    kept = sum(c.id not in chosen and c.reference is not None for c in dataset.test_cases)
    why = "for training" if known & chosen else "not test cases"
    excluded: list[tuple[str | int, str]] = [(rest, why)] if rest else []
    if kept:
        excluded.append((kept, "kept for testing"))
    excluded += [(case, "test case without a reference") for case in bare]
    return len(known) + len(dataset.test_cases), excluded


def _which(dataset: Dataset, cases: Sequence[Case]) -> str:
    test = {case.id for case in dataset.test_cases}
    return "test cases" if test & {case.id for case in cases} else "held out from training"


def _pictures(
    evaluation: Evaluation, cases: Sequence[Case], dataset: Dataset, config: Config
) -> list[CasePicture]:
    known = {case.id: case for case in cases}
    rows = evaluation.document["rows"]
    labels = list(dict.fromkeys(row["label"] for row in rows))
    pictures = []
    for label in labels:
        value = dataset.labels[label] if len(labels) > 1 else None
        for case_id, standing in pick_cases(rows, label):
            case = known[case_id]
            file = _map(evaluation, case_id, value)
            try:
                scan, _ = CaseReader(case, config.data).channel(case.channels[0])
                most = WORST_SLICES if standing == "worst" else 1
                shown = paint_case(scan, read_labels(file), dataset.channels[0], most)
            except SegpipeError:
                shown = None  # the report says that the scan could not be read
            place = Path(os.path.relpath(file, evaluation.folder)).as_posix()
            pictures.append(CasePicture(case_id, label, standing, shown, place))
    return pictures


def _map(evaluation: Evaluation, case: str, label: int | None) -> Path:
    """The painted map of a case; a pooled evaluation has them beside its own folder."""
    own = painted_map(evaluation.folder, case, label)
    others = sorted(evaluation.folder.parent.iterdir())
    beside = [one for f in others if (one := painted_map(f, case, label)).exists()]
    return own if own.exists() or not beside else beside[0]
