"""``segpipe evaluate``: predict, score, choose the operating point, report, track."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset, open_dataset
from segpipe.data.splits import dataset_digest, make_folds
from segpipe.errors import DataError, ModelError
from segpipe.model.bundle import Bundle
from segpipe.observer import Observer, Together
from segpipe.pipeline.cohort import publish_evaluation
from segpipe.pipeline.evaluation import Evaluation, pool
from segpipe.pipeline.fold import store_validation
from segpipe.pipeline.models import bundle_folder, load_models
from segpipe.pipeline.prepare import chosen_fold, tell_failures
from segpipe.pipeline.provenance import source
from segpipe.pipeline.runs import finished_bundle
from segpipe.pipeline.score_output import score_table
from segpipe.pipeline.scoring import evaluate_cases


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

    Returns
    -------
    bool
        Whether a case failed.
    """
    dataset = open_dataset(config.data)
    digest = dataset_digest(dataset)
    parts = _parts(config, dataset, bundles, fold, split)
    with _tracked(config, dataset, digest, split, fold) as (run_id, listeners):
        folder = config.output / config.name / "evaluations" / run_id
        everyone = Together([observer, *listeners])
        done: list[Evaluation] = []
        for part in parts:
            observer.message(f"{part.name}: {len(part.cases)} cases")
            done.append(_evaluate_part(part, dataset, digest, config, folder, everyone))
        cases = [case for part in parts for case in part.cases]
        whole = done[0] if len(done) == 1 else pool(done, cases, config, folder / "pooled")
        first = bundle_folder(parts[0].bundles[0], config.output)
        publish_evaluation(
            whole, cases, dataset, config, first, everyone, on_validation=split == "validation"
        )
        console.print(score_table(whole.document))
        console.print(f"operating point: {_describe(whole)}", highlight=False)
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


def _evaluate_part(part, dataset, digest, config, folder, observer) -> Evaluation:
    loaded = load_models(part.bundles, config.output, engine=config.predict.engine, config=config)
    for model in loaded.models:
        _fits(model.bundle, part, dataset, digest, config)
    point = None if part.choose else loaded.bundle.operating_point
    name = part.name.replace(" ", "-")
    evaluation = evaluate_cases(
        part.cases, dataset, config, loaded, folder / name, observer, point=point
    )
    if part.choose and len(loaded.folders) == 1 and not evaluation.failed:
        store_validation(loaded.folders[0], evaluation, config, part.cases)
    return evaluation


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


def _describe(evaluation: Evaluation) -> str:
    point = evaluation.choice.operating_point
    text = f"threshold {point.threshold:g}, minimum size {point.min_size_mm3:g} mm³"
    return f"{text} ({evaluation.choice.reason})"


@contextlib.contextmanager
def _tracked(
    config: Config, dataset: Dataset, digest: str, split: str, fold: int | None
) -> Iterator[tuple[str, list[Any]]]:
    if not config.tracking.enabled:
        yield uuid.uuid4().hex, []
        return
    from segpipe.tracking import Store, flatten, standard_tags

    code = source()
    store = Store(config.output)
    cases = (*dataset.cases, *dataset.test_cases)
    store.identifiers.add([case.id for case in cases] + [case.patient for case in cases])
    which = "all folds" if fold is None else f"fold {fold}"
    note = f"Evaluation of {config.name}, {which}, on {split} cases."
    tags = standard_tags(note, revision=code.revision, dirty=code.dirty)
    with store.run(config.name, f"evaluation, {split}, {which}", tags=tags) as run:
        run.params({f"evaluate.{k}": v for k, v in flatten(config.evaluate).items()})
        run.dataset(dataset.name, digest, len(cases))
        yield run.run_id, [run]
