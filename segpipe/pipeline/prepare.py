"""``segpipe prepare``: fingerprint, region masks and cache of every case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from segpipe.anatomy.placement import placement_words
from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset, open_dataset
from segpipe.data.read import read_case
from segpipe.data.splits import Fold, make_folds
from segpipe.errors import ConfigError, SegpipeError
from segpipe.files import write_bytes
from segpipe.observer import Observer
from segpipe.parallel import map_cases
from segpipe.pipeline.placements import check_registration
from segpipe.pipeline.priors import fold_priors
from segpipe.pipeline.regions import CaseRegions, dataset_regions
from segpipe.prepare import PreparedCase, PreparePlan, make_plan, prepare_case
from segpipe.volume import Volume


@dataclass(frozen=True)
class Prepared:
    """Prepared cases by id, in the order asked for, and the errors of those that failed."""

    cases: dict[str, PreparedCase]
    failed: dict[str, SegpipeError]


def run_prepare(config: Config, observer: Observer) -> bool:
    """Prepare every case for every fold; folds that share a plan share the work.

    Where there are regions, a picture of each case's is drawn for review: once, or for every fold
    where they come from lesion frequency.

    Returns
    -------
    bool
        Whether a case failed.
    """
    dataset = open_dataset(config.data)
    failed: dict[str, SegpipeError] = {}
    done: list[PreparePlan] = []
    by_fold = any(region.source == "frequency" for region in config.anatomy.regions)
    for fold in make_folds(dataset.cases, config.split):
        plan = plan_for(dataset, fold, config)
        if plan in done and not by_fold:
            continue
        done.append(plan)
        priors = fold_priors(dataset, fold, config, observer)
        spacing = " × ".join(f"{s:.3g}" for s in plan.spacing_mm)
        observer.message(f"fold {fold.index}: {len(dataset.cases)} cases at {spacing} mm")
        pictures = None
        if config.anatomy.regions and (by_fold or fold.index == 0):
            pictures = pictures_dir(config, fold if by_fold else None)
        prepared = prepare_cases(
            dataset.cases, dataset, plan, config, observer, priors, pictures=pictures
        )
        failed |= prepared.failed
        tell_regions(prepared, observer)
        if pictures is not None:
            observer.message(f"pictures of the regions in {pictures}")
    tell_failures(failed, observer)
    observer.message(f"prepared {len(dataset.cases) - len(failed)} cases in {cache_dir(config)}")
    return bool(failed)


def cache_dir(config: Config) -> Path:
    """Where prepared cases are kept; shared by all experiments of one output folder."""
    return config.output / "cache"


def pictures_dir(config: Config, fold: Fold | None) -> Path:
    """Where pictures of regions are written; a folder per fold where regions differ from it."""
    folder = config.output / config.name / "regions"
    return folder if fold is None else folder / f"fold-{fold.index}"


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
    *,
    pictures: Path | None = None,
) -> Prepared:
    """Prepare cases side by side; one that fails does not stop the others.

    ``priors`` are the fold's (:func:`~segpipe.pipeline.priors.fold_priors`). ``pictures`` is a
    folder for a picture of each case's regions.

    Raises
    ------
    SegpipeError
        The first error, with ``predict.strict``; or if no case could be registered as configured.
    """
    check_registration(config.anatomy, dataset.channels, dataset.root)
    work = partial(
        _prepare_one, dataset=dataset, plan=plan, config=config, priors=priors, pictures=pictures
    )
    ready: dict[str, PreparedCase] = {}
    failed: dict[str, SegpipeError] = {}
    outcomes = map_cases(work, cases, workers=config.prepare.workers, scheduler=config.scheduler)
    for done, outcome in enumerate(outcomes, start=1):
        observer.progress(done, len(cases), "preparing")
        if outcome.error is None:
            ready[outcome.item.id] = outcome.value
        elif config.predict.strict:
            raise outcome.error
        else:
            failed[outcome.item.id] = outcome.error
    return Prepared(ready, failed)


def tell_failures(failed: dict[str, SegpipeError], observer: Observer) -> None:
    """One line per failed case."""
    for case, error in failed.items():
        observer.message(f"failed: {case}: {error}")


def tell_regions(prepared: Prepared, observer: Observer) -> None:
    """How each case was registered, and the regions that it goes on without."""
    for case in prepared.cases.values():
        facts = case.registration
        if facts is not None and not facts["problem"]:
            observer.message(f"{case.id}: {placement_words(facts)}")
        for flag in case.flags:
            if flag.startswith("region "):
                observer.message(f"{case.id}: {flag}")


def _prepare_one(
    case: Case,
    *,
    dataset: Dataset,
    plan: PreparePlan,
    config: Config,
    priors: Mapping[str, Volume] | None,
    pictures: Path | None,
) -> PreparedCase:
    loaded = read_case(case, dataset.labels, config.data)
    found = dataset_regions(case, loaded.image, dataset, config, priors)
    noted = replace(loaded, flags=loaded.flags + found.flags)
    prepared = prepare_case(noted, found.maps, plan, cache_dir(config), found.registration)
    if pictures is not None:
        _draw(case.id, loaded.image, found, pictures / f"{case.id}.png")
    return prepared


def _draw(case_id: str, image: Volume, found: CaseRegions, path: Path) -> None:
    from segpipe.report.regions import region_picture

    facts = found.registration
    notes = [] if facts is None or facts["problem"] else [placement_words(facts)]
    first = image.with_array(image.array[..., 0])
    write_bytes(path, region_picture(first, found.maps, case_id, [*notes, *found.flags]))
