"""``segpipe evaluate``: predict, score, choose the operating point, report, track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from segpipe.config import Config
from segpipe.data.check import patients_in_both
from segpipe.data.layouts import open_dataset
from segpipe.data.splits import dataset_digest
from segpipe.evaluate.operating_point import Choice
from segpipe.evaluate.outcome import Outcome, compare_outcomes, outcomes
from segpipe.files import temporary_folder
from segpipe.model.bundle import load_bundle
from segpipe.model.ensemble import renew_ensemble
from segpipe.observer import Observer, Together
from segpipe.pipeline.card import CARD, write_card
from segpipe.pipeline.cohort import publish_evaluation
from segpipe.pipeline.evaluation import Evaluation, expect_columns, pool
from segpipe.pipeline.evaluation_document import score_settings
from segpipe.pipeline.models import Loaded, bundle_folder
from segpipe.pipeline.parts import Part, Task, find_parts
from segpipe.pipeline.points import bundled_choice, choice_in_words
from segpipe.pipeline.predictions import Predicted, predict_cases
from segpipe.pipeline.prepare import tell_failures, tell_findings
from segpipe.pipeline.runs import RunFolder
from segpipe.pipeline.score_output import score_table
from segpipe.pipeline.scored_runs import expect_counted_alike, expect_in_common, read_scored_run
from segpipe.pipeline.scoring import choose_point, evaluate_cases, score_cases
from segpipe.pipeline.tracked import track_evaluation
from segpipe.pipeline.trained import store_validation


def run_evaluate(
    config: Config,
    bundles: Sequence[str],
    fold: int | None,
    split: str,
    console: Console,
    observer: Observer,
    *,
    run: RunFolder | None = None,
    baseline: str | None = None,
) -> bool:
    """Evaluate on the cases that a fold held out, of all folds, or on the test cases.

    On validation cases the operating point is chosen there and stored in the bundle, whose
    figures are then optimistic by that choice; on test cases the bundle's own is used.

    Parameters
    ----------
    config : Config
    bundles : sequence of str
        None given: those that were trained on the fold, in ``run`` or else in the newest one.
    fold : int or None
        None: all folds, each on what it held out, pooled per patient.
    split : {'validation', 'test'}
    console : rich.console.Console
        For the table of scores.
    observer : Observer
    run : RunFolder, optional
        The training whose bundles are meant.
    baseline : str or None
        Scores to compare with, as ``segpipe compare`` reads them.

    Returns
    -------
    bool
        Whether a case failed.

    Raises
    ------
    SegpipeError
        If the data, bundles or baseline cannot be used; nothing is evaluated then.
    """
    against = None if baseline is None else read_scored_run(baseline, config.output)
    dataset = open_dataset(config.data)
    expect_columns(dataset, config)
    tell_findings(dataset.findings, observer)
    digest = dataset_digest(dataset, observer)
    parts = find_parts(config, dataset, bundles, fold, split, run)
    if split == "test" and (known := patients_in_both(dataset)):
        observer.message(
            f"warning: test cases of patients who are in the training part too, so that their "
            f"figures are too good: {', '.join(case for case, _ in known)}"
        )
    if against is not None:
        mine = [(case.id, name) for part in parts for case in part.cases for name in dataset.labels]
        expect_in_common(against, mine, "this evaluation")
        own = score_settings(config, config.predict.operating_point).model_dump(mode="json")
        expect_counted_alike(replace(against, name="this evaluation", settings=own), against)
    with track_evaluation(config, dataset, digest, split, fold) as (run_id, listeners):
        folder = config.output / config.name / "evaluations" / run_id
        everyone = Together([observer, *listeners])
        task = Task(dataset, digest, config, folder, everyone)
        whole = _cross_validate(parts, task) if len(parts) > 1 else _evaluate_part(parts[0], task)
        first = bundle_folder(parts[0].bundles[0], config.output)
        cases = [case for part in parts for case in part.cases]
        publish_evaluation(whole, cases, dataset, config, first, everyone, baseline=against)
        console.print(score_table(whole.document))
        for line in choice_in_words(whole.choice):
            console.print(line, markup=False, highlight=False)
        observer.message(f"evaluation in {whole.folder}")
    tell_failures(whole.failed, observer)
    return bool(whole.failed)


def _evaluate_part(part: Part, task: Task) -> Evaluation:
    loaded = task.load(part)
    evaluation = evaluate_cases(
        part.cases,
        task.dataset,
        task.config,
        loaded,
        task.part_folder(part),
        task.observer,
        given=None if part.choose else bundled_choice(loaded, task.config.evaluate),
    )
    if part.choose:
        _store(loaded, evaluation, task)
    return evaluation


def _store(loaded: Loaded, evaluation: Evaluation, task: Task) -> None:
    """Put operating point and figures into the bundle, and into registered copies of it."""
    kept = None
    if len(loaded.folders) > 1:
        kept = "several bundles predicted together"
    elif not evaluation.scored:
        kept = "no case could be scored"
    if kept is not None:
        task.observer.message(f"{loaded.bundle.name} keeps its operating point and figures: {kept}")
        return
    store_validation(loaded.folders[0], evaluation, task.config)
    _store_in_registry(loaded.folders[0], task)


def _store_in_registry(bundle: Path, task: Task) -> None:
    if task.config.tracking.enabled:
        from segpipe.tracking import Store, update_bundles

        name = task.config.name
        for version in update_bundles(Store(task.config.output), name, bundle):
            task.observer.message(f"operating point stored in models:/{name}/{version}")


def _cross_validate(parts: Sequence[Part], task: Task) -> Evaluation:
    """Every fold on what it held out, at the operating point that the other folds chose.

    No case has a say in the point that it is scored at. The point that all folds together choose
    goes into the bundles, with the pooled figures.
    """
    config, several = task.config, "not certified: the predictions come from the models of folds"
    with temporary_folder(config.output / config.name) as store:
        predicted, models = [], []
        for part in parts:
            mine, loaded = _predict_part(part, task, store)
            predicted.append(mine)
            models.append(loaded)
        done, choices = [], []
        for k, (part, mine) in enumerate(zip(parts, predicted, strict=True)):
            others = [one for i, one in enumerate(predicted) if i != k]
            choice = _chosen_on(others, config, several)
            reason = f"chosen on the other folds: {choice.reason}"
            choices.append(replace(choice, reason=reason))
            done.append(
                score_cases(
                    mine,
                    choices[-1],
                    task.dataset,
                    config,
                    models[k],
                    task.part_folder(part),
                    task.observer,
                    selected=models[k].selected,
                    of_validation=True,
                )
            )
        choice = replace(
            _chosen_on(predicted, config, several), gain=_gain(predicted, choices, config)
        )
    reason = f"{choice.reason}; each fold is scored at the point that the other folds chose"
    cases = [case for part in parts for case in part.cases]
    whole = pool(done, cases, config, replace(choice, reason=reason), task.folder / "pooled")
    for loaded in models:
        _store(loaded, whole, task)
    _store_in_ensemble([loaded.folders[0] for loaded in models], task)
    return whole


def _store_in_ensemble(bundles: Sequence[Path], task: Task) -> None:
    """The same in the ensemble of the run, if its folds are already put together."""
    ensemble = RunFolder(bundles[0].parent.parent).ensemble
    if not renew_ensemble(ensemble, [load_bundle(bundle) for bundle in bundles]):
        return
    if (ensemble / CARD).is_file():
        write_card(ensemble)
    task.observer.message(f"operating point stored in {ensemble}")
    _store_in_registry(ensemble, task)


def _predict_part(part: Part, task: Task, store: Path) -> tuple[Predicted, Loaded]:
    """Predict what a fold held out; its networks are let go before the next fold's load."""
    loaded, point = task.load(part), task.config.predict.operating_point
    predicted = predict_cases(
        part.cases, task.dataset, task.config, loaded, store, task.observer, point=point
    )
    return predicted, loaded.described()


def _gain(
    parts: Sequence[Predicted], choices: Sequence[Choice], config: Config
) -> dict[str, dict[str, Any]]:
    """What each fold gains by the point of the other folds over the configured one."""
    configured = config.predict.operating_point
    labels = list(dict.fromkeys(label for part in parts for label in part.table["label"]))
    before: list[Outcome] = []
    after: list[Outcome] = []
    for part, choice in zip(parts, choices, strict=True):
        cases = list(part.patients)
        for side, point in ((before, configured), (after, choice.operating_point)):
            side += outcomes(part.table, config.evaluate, [point], cases, labels)
    patients = {case: owner for part in parts for case, owner in part.patients.items()}
    return compare_outcomes(before, after, patients, config.evaluate.bootstrap)


def _chosen_on(parts: Sequence[Predicted], config: Config, obstacle: str) -> Choice:
    table = pd.concat([part.table for part in parts], ignore_index=True)
    patients = {case: owner for part in parts for case, owner in part.patients.items()}
    return choose_point(table, patients, config, obstacle=obstacle)
