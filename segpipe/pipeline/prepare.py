"""``segpipe prepare``: fingerprint, region masks and cache of every case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset, Finding, open_dataset
from segpipe.data.read import read_case
from segpipe.data.splits import Fold, make_folds
from segpipe.errors import ConfigError, SegpipeError, StorageError
from segpipe.observer import Observer
from segpipe.parallel import map_cases
from segpipe.pipeline.memory import within_memory
from segpipe.pipeline.placements import check_registration
from segpipe.pipeline.priors import fold_priors
from segpipe.pipeline.regions import dataset_regions
from segpipe.pipeline.review import write_review
from segpipe.prepare import PreparedCase, PreparePlan, make_plan, prepare_case
from segpipe.prepare.keys import image_key
from segpipe.volume import Volume


@dataclass(frozen=True)
class Prepared:
    """Prepared cases by id, in the order asked for, and the errors of those that failed."""

    cases: dict[str, PreparedCase]
    failed: dict[str, SegpipeError]


def run_prepare(config: Config, observer: Observer) -> bool:
    """Prepare every case for every fold; folds that share a plan share the work.

    Overlays of the cases, as the first fold prepares them, lie in ``OUTPUT/NAME/prepare``.

    Returns
    -------
    bool
        Whether a case failed.
    """
    dataset = open_dataset(config.data)
    tell_findings(dataset.findings, observer)
    failed: dict[str, SegpipeError] = {}
    done: list[PreparePlan] = []
    first: dict[str, PreparedCase] = {}
    by_fold = any(region.source == "frequency" for region in config.anatomy.regions)
    for fold in make_folds(dataset.cases, config.split):
        plan = plan_for(dataset, fold, config)
        if plan in done and not by_fold:
            continue
        priors = fold_priors(dataset, fold, config, observer)
        observer.message(f"fold {fold.index}: {len(dataset.cases)} cases at {_spacing(plan)}")
        prepared = prepare_cases(dataset.cases, dataset, plan, config, observer, priors)
        failed |= prepared.failed
        tell_regions(prepared, observer)
        first = first if done else prepared.cases
        done.append(plan)
    tell_failures(failed, observer)
    observer.message(f"prepared {len(dataset.cases) - len(failed)} cases in {config.cache}")
    page = write_review(
        [case.id for case in dataset.cases],
        first,
        failed,
        config,
        config.cache,
        channel=done[0].channels[0],
        shown=_shown(done, by_fold),
        observer=observer,
    )
    observer.message(f"look at the regions: {page}")
    return bool(failed)


def _shown(plans: Sequence[PreparePlan], by_fold: bool) -> str:
    """Which of the folds' preparations is shown, in a sentence."""
    at = f"at {_spacing(plans[0])}"
    if by_fold:
        return f"As prepared for fold 0, {at}; lesion frequency differs from fold to fold."
    if len(plans) > 1:
        return f"As prepared for fold 0, {at}; the plans of other folds differ."
    return f"As prepared for all folds, {at}."


def _spacing(plan: PreparePlan) -> str:
    return " × ".join(f"{s:.3g}" for s in plan.spacing_mm) + " mm"


def plan_for(dataset: Dataset, fold: Fold, config: Config) -> PreparePlan:
    """The plan of a fold, from its training cases alone."""
    training = set(fold.train)
    return make_plan(dataset, [case for case in dataset.cases if case.id in training], config)


def chosen_fold(dataset: Dataset, config: Config, index: int) -> Fold:
    """One fold of the seeded split.

    Raises
    ------
    ConfigError
        If there is no such fold.
    """
    folds = make_folds(dataset.cases, config.split)
    if not 0 <= index < len(folds):
        raise ConfigError(f"--fold: expected 0 to {len(folds) - 1} or all; received {index}.")
    return folds[index]


def prepare_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    plan: PreparePlan,
    config: Config,
    observer: Observer,
    priors: Mapping[str, Volume] | None = None,
) -> Prepared:
    """Prepare cases side by side; one that fails does not stop the others.

    ``priors`` are the fold's (:func:`~segpipe.pipeline.priors.fold_priors`).

    Raises
    ------
    SegpipeError
        The first error, with ``predict.strict``; if the cache cannot be written; or if no case
        could be registered as configured.
    """
    check_registration(config.anatomy, dataset.channels, dataset.root)
    work = partial(_prepare_one, dataset=dataset, plan=plan, config=config, priors=priors)
    ready: dict[str, PreparedCase] = {}
    failed: dict[str, SegpipeError] = {}
    outcomes = map_cases(work, cases, workers=config.prepare.workers, scheduler=config.scheduler)
    for done, outcome in enumerate(outcomes, start=1):
        observer.progress(done, len(cases), "preparing")
        if outcome.error is None:
            ready[outcome.item.id] = outcome.value
        elif config.predict.strict or isinstance(outcome.error, StorageError):
            raise outcome.error
        else:
            failed[outcome.item.id] = outcome.error
    return Prepared(ready, failed)


def tell_failures(failed: dict[str, SegpipeError], observer: Observer) -> None:
    """One line per failed case."""
    for case, error in failed.items():
        observer.message(f"failed: {case}: {error}")


def tell_findings(findings: Sequence[Finding], observer: Observer) -> None:
    """One line per finding of a layout: what it is about is left out, or used as it is."""
    for finding in findings:
        observer.message(f"warning: {finding.to_error()}")


def tell_regions(prepared: Prepared, observer: Observer) -> None:
    """How cases were registered, the regions that they go on without, and lesions that vanish."""
    for case in prepared.cases.values():
        for flag in case.flags:
            if flag.startswith(("template: ", "region ", "reference: ")):
                observer.message(f"{case.id}: {flag}")


def _prepare_one(case: Case, *, dataset: Dataset, plan: PreparePlan, config: Config, priors):
    key = image_key(case, plan)
    with within_memory(case):
        loaded = read_case(case, dataset.labels, config.data)
        found = dataset_regions(case, loaded.image, dataset, config, priors)
        return prepare_case(
            loaded,
            found.maps,
            plan,
            config.cache,
            found.noted,
            read_as=key,
            max_voxels=config.data.max_voxels,
        )
