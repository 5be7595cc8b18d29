"""``segpipe evaluate``: predict, score, choose the operating point, report, track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from rich.console import Console

from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset, open_dataset
from segpipe.data.splits import dataset_digest, make_folds
from segpipe.errors import DataError, ModelError
from segpipe.evaluate.operating_point import Choice
from segpipe.model.bundle import Bundle
from segpipe.observer import Observer, Together
from segpipe.pipeline.cohort import publish_evaluation
from segpipe.pipeline.evaluation import Evaluation, pool
from segpipe.pipeline.fold import store_validation
from segpipe.pipeline.models import Loaded, bundle_folder, load_models
from segpipe.pipeline.points import bundled_choice, choice_in_words
from segpipe.pipeline.prepare import chosen_fold, tell_failures
from segpipe.pipeline.runs import finished_bundle
from segpipe.pipeline.score_output import score_table
from segpipe.pipeline.scored_runs import read_scored_run
from segpipe.pipeline.scoring import (
    Predicted,
    choose_point,
    evaluate_cases,
    predict_cases,
    probability_store,
    score_cases,
)
from segpipe.pipeline.tracked import track_evaluation


@dataclass(frozen=True)
class _Part:
    """Cases that one set of bundles is evaluated on."""

    name: str
    bundles: tuple[str, ...]
    cases: tuple[Case, ...]
    choose: bool
    fold: int | None = None


def run_evaluate(
    config: Config,
    bundles: Sequence[str],
    fold: int | None,
    split: str,
    console: Console,
    observer: Observer,
    *,
    baseline: str | None = None,
) -> bool:
    """Evaluate on the cases that a fold held out, of all folds, or on the test cases.

    On validation cases the operating point is chosen there and stored in the bundle, whose
    figures are then optimistic by that choice; on test cases the bundle's own is used.

    Parameters
    ----------
    config : Config
    bundles : sequence of str
        None given: those of the newest training of the fold.
    fold : int or None
        None: all folds, each on what it held out, pooled per patient.
    split : {'validation', 'test'}
    console : rich.console.Console
        For the table of scores.
    observer : Observer
    baseline : str or None
        Scores to compare with, as ``segpipe compare`` reads them.

    Returns
    -------
    bool
        Whether a case failed.
    """
    against = None if baseline is None else read_scored_run(baseline, config.output)
    dataset = open_dataset(config.data)
    digest = dataset_digest(dataset)
    parts = _parts(config, dataset, bundles, fold, split)
    with track_evaluation(config, dataset, digest, split, fold) as (run_id, listeners):
        folder = config.output / config.name / "evaluations" / run_id
        everyone = Together([observer, *listeners])
        task = _Task(dataset, digest, config, folder, everyone)
        whole = _cross_validate(parts, task) if len(parts) > 1 else _evaluate_part(parts[0], task)
        first = bundle_folder(parts[0].bundles[0], config.output)
        cases = [case for part in parts for case in part.cases]
        optimistic = split == "validation" and len(parts) == 1
        publish_evaluation(
            whole,
            cases,
            dataset,
            config,
            first,
            everyone,
            on_validation=optimistic,
            baseline=against,
        )
        console.print(score_table(whole.document))
        for line in choice_in_words(whole.choice):
            console.print(line, highlight=False)
        observer.message(f"evaluation in {whole.folder}")
    tell_failures(whole.failed, observer)
    return bool(whole.failed)


def _parts(config, dataset, bundles, fold, split) -> list[_Part]:
    if split == "test":
        cases = tuple(case for case in dataset.test_cases if case.reference is not None)
        if not cases:
            raise DataError(
                dataset.root,
                "no test case with a reference",
                expected="labelsTs, or the layout's own test references",
                fix="Add them, or evaluate --split validation.",
            )
        count = len(make_folds(dataset.cases, config.split))
        trained = range(count) if fold is None else [fold]
        chosen = tuple(bundles) or tuple(str(finished_bundle(config, k)) for k in trained)
        return [_Part("test cases", chosen, cases, choose=False)]
    folds = (
        make_folds(dataset.cases, config.split)
        if fold is None
        else [chosen_fold(dataset, config, fold)]
    )
    parts = []
    for one in folds:
        held_out = set(one.validation)
        cases = tuple(case for case in dataset.cases if case.id in held_out)
        chosen = tuple(bundles) or (str(finished_bundle(config, one.index)),)
        if cases:
            parts.append(_Part(f"fold {one.index}", chosen, cases, choose=True, fold=one.index))
    if not parts:
        raise DataError(
            dataset.root,
            "no validation case",
            expected="split.folds of at least 2",
            fix="Train with more folds, or evaluate --split test.",
        )
    return parts


@dataclass(frozen=True)
class _Task:
    """What is the same for every part."""

    dataset: Dataset
    digest: str
    config: Config
    folder: Path
    observer: Observer

    def load(self, part: _Part) -> Loaded:
        """The models of a part, if they fit it."""
        self.observer.message(f"{part.name}: {len(part.cases)} cases")
        config = self.config
        loaded = load_models(
            part.bundles, config.output, engine=config.predict.engine, config=config
        )
        for model in loaded.models:
            _fits(model.bundle, part, self.dataset, self.digest, config)
        return loaded

    def part_folder(self, part: _Part) -> Path:
        """Where what belongs to a part is written."""
        return self.folder / part.name.replace(" ", "-")


def _evaluate_part(part: _Part, task: _Task) -> Evaluation:
    loaded = task.load(part)
    evaluation = evaluate_cases(
        part.cases,
        task.dataset,
        task.config,
        loaded,
        task.part_folder(part),
        task.observer,
        given=None if part.choose else bundled_choice(loaded.bundle),
    )
    if part.choose:
        _store(loaded, evaluation, part.cases, task)
    return evaluation


def _store(loaded: Loaded, evaluation: Evaluation, cases: Sequence[Case], task: _Task) -> None:
    """Put operating point and figures into the bundle, and into registered copies of it."""
    if len(loaded.folders) > 1 or evaluation.failed:
        return
    store_validation(loaded.folders[0], evaluation, task.config, cases)
    if task.config.tracking.enabled:
        from segpipe.tracking import Store, update_bundles

        name = task.config.name
        for version in update_bundles(Store(task.config.output), name, loaded.folders[0]):
            task.observer.message(f"operating point stored in models:/{name}/{version}")


def _cross_validate(parts: Sequence[_Part], task: _Task) -> Evaluation:
    """Every fold on what it held out, at the operating point that the other folds chose.

    No case has a say in the point that it is scored at. The point that all folds together choose
    goes into the bundles, with the pooled figures.
    """
    config, several = task.config, "not certified: the predictions come from the models of folds"
    with probability_store(task.folder) as store:
        predicted, models = [], []
        for part in parts:
            models.append(task.load(part))
            predicted.append(
                predict_cases(
                    part.cases,
                    task.dataset,
                    config,
                    models[-1],
                    store,
                    task.observer,
                    point=config.predict.operating_point,
                )
            )
        done = []
        for k, (part, mine) in enumerate(zip(parts, predicted, strict=True)):
            others = [one for i, one in enumerate(predicted) if i != k]
            choice = _chosen_on(others, config, several)
            reason = f"chosen on the other folds: {choice.reason}"
            done.append(
                score_cases(
                    mine,
                    replace(choice, reason=reason),
                    task.dataset,
                    config,
                    models[k],
                    task.part_folder(part),
                    task.observer,
                )
            )
        choice = _chosen_on(predicted, config, several)
    reason = f"{choice.reason}; each fold is scored at the point that the other folds chose"
    cases = [case for part in parts for case in part.cases]
    whole = pool(done, cases, config, replace(choice, reason=reason), task.folder / "pooled")
    for loaded in models:
        _store(loaded, whole, cases, task)
    return whole


def _chosen_on(parts: Sequence[Predicted], config: Config, obstacle: str) -> Choice:
    table = pd.concat([part.table for part in parts], ignore_index=True)
    patients = {case: owner for part in parts for case, owner in part.patients.items()}
    return choose_point(table, patients, config, obstacle=obstacle)


def _fits(bundle: Bundle, part: _Part, dataset: Dataset, digest: str, config: Config) -> None:
    """Refuse a bundle of another task, or validation on what it was trained on."""
    plan = bundle.plan
    if list(plan.labels.items()) != list(dataset.labels.items()):
        raise ModelError(
            f"{bundle.name}: expected labels {dict(dataset.labels)}, in this order; received "
            f"{dict(plan.labels)}. Evaluate with a bundle of this dataset's task."
        )
    if plan.channels != tuple(dataset.channels):
        raise ModelError(
            f"{bundle.name}: expected channels {dataset.channels}; received {plan.channels}. "
            "Evaluate with a bundle of this dataset's task."
        )
    if not part.choose:
        return
    trained = bundle.config
    held_out = (
        bundle.dataset.fold == part.fold
        and trained.split == config.split
        and trained.data.patient_pattern == config.data.patient_pattern
        and bundle.dataset.digest == digest
    )
    if not held_out:
        raise ModelError(
            f"{bundle.name}: expected a bundle that held out {part.name} of this dataset and "
            f"split; received one of fold {bundle.dataset.fold} that may have trained on these "
            "cases. Evaluate --split test, or the fold that it held out."
        )
