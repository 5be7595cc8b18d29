"""``segpipe train``: prepare, fit, validate lesion-wise, bundle, report, track, register."""

from __future__ import annotations

import contextlib
import math
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from segpipe.backend import select
from segpipe.backend.callbacks import choose_labelling
from segpipe.config import Config, digest, dump
from segpipe.data.layouts import open_dataset
from segpipe.data.splits import Fold, dataset_digest, expect_training_cases, make_folds
from segpipe.errors import DataError
from segpipe.files import write_text
from segpipe.observer import Observer, Together
from segpipe.pipeline.evaluation import Evaluation, expect_columns
from segpipe.pipeline.experiment import Experiment
from segpipe.pipeline.fold import train_fold
from segpipe.pipeline.folds import conclude_folds
from segpipe.pipeline.prepare import chosen_fold, tell_findings
from segpipe.pipeline.provenance import now, source
from segpipe.pipeline.runs import RunFolder, expect_same_configuration, find_run, sole_trainer
from segpipe.pipeline.start import start_folder, start_record
from segpipe.pipeline.tracked import FOLD_LINKS
from segpipe.predict.engines import choose_engine


def run_train(
    config: Config, fold: int | Literal["all"] | None, resume: str | None, observer: Observer
) -> bool:
    """Train one fold, or all of them; all of them are then cross-validated and put together.

    Parameters
    ----------
    config : Config
    fold : int, 'all' or None
        None: those that the resumed run began with; fold 0 of a new one.
    resume : str or None
        The run to go on with.
    observer : Observer

    Returns
    -------
    bool
        Whether a case failed; training goes on without it.

    Raises
    ------
    SegpipeError
        If the data, the configuration or the model cannot be used.
    """
    run = None if resume is None else find_run(config, resume)
    if run is not None:
        expect_same_configuration(config, run)
    settings = config.train
    device = select(
        config.backend, settings.device, settings.precision, settings.deterministic, settings.seed
    )
    observer.message(f"device: {device.describe()}")
    engine = choose_engine(config.predict.engine, device.kind, device.backend)
    choose_labelling(config.loss.labelling, device)  # refused now, before data are read
    dataset = open_dataset(config.data)
    expect_columns(dataset, config)
    tell_findings(dataset.findings, observer)
    expect_training_cases(dataset)
    folds = make_folds(dataset.cases, config.split)
    if fold == "all":
        wanted: tuple[Fold, ...] = folds
    elif fold is None and run is not None:
        wanted = tuple(folds[k] for k in run.record()["wanted"])
    else:
        wanted = (chosen_fold(dataset, config, fold or 0),)
    start = start_folder(config, None if run is None else run.record().get("start"))
    experiment = Experiment(
        config, dataset, dataset_digest(dataset, observer), device, engine, start
    )
    failed = False
    with contextlib.ExitStack() as held:
        earlier = run
        if earlier is not None:
            held.enter_context(sole_trainer(earlier))
        with _tracking(experiment, earlier) as tracking:
            run = _begin(experiment, earlier, tracking.run_id, [one.index for one in wanted])
            if earlier is None:
                held.enter_context(sole_trainer(run))
            observer.message(f"run {run.id} in {run.path}")
            for one in wanted:
                entry = run.record()["folds"].get(str(one.index), {})
                if entry.get("status") == "finished":
                    observer.message(f"fold {one.index}: finished before")
                    failed |= bool(entry["failed"])
                    continue
                failed |= _train_and_track(experiment, one, run, tracking, observer)
        if len(wanted) == len(folds) > 1:
            failed |= conclude_folds(config, len(folds), run, observer)
    return failed


def _train_and_track(
    experiment: Experiment, fold: Fold, run: RunFolder, tracking: _Tracking, observer: Observer
) -> bool:
    started = str(fold.index) in run.record()["folds"]
    with tracking.fold(fold, run) as (listener, fold_run):
        _note(run, fold, {"status": "started", "run_id": fold_run})
        everyone = Together([observer, *listener])
        evaluation, failed, fitting = train_fold(
            experiment, fold, run.fold(fold.index), everyone, resume=started
        )
        figures = {} if evaluation is None else evaluation.figures()
        defined = {name: v if math.isfinite(v) else None for name, v in figures.items()}
        entry = {
            "run_id": fold_run,
            "figures": defined,
            "failed": sorted(failed),
            "fitting": fitting.model_dump(exclude_none=True),
        }
        _note(run, fold, {"status": "scored", **entry})
        tracking.finish(fold, run, fold_run, evaluation, observer)
        _note(run, fold, {"status": "finished", **entry})
    return bool(failed)


def _begin(
    experiment: Experiment, run: RunFolder | None, run_id: str, wanted: list[int]
) -> RunFolder:
    if run is not None:
        if run.record()["dataset_digest"] != experiment.dataset_digest:
            raise DataError(
                experiment.dataset.root,
                "the dataset changed since the run began",
                expected=f"digest {run.record()['dataset_digest'][:12]}",
                received=experiment.dataset_digest[:12],
                fix="Restore the data, or begin a new run.",
            )
        return run
    config = experiment.config
    run = RunFolder(config.output / config.name / run_id)
    write_text(run.path / "config.yaml", dump(config))
    code = source()
    run.write_record(
        {
            "schema": 1,
            "id": run_id,
            "created": now(),
            "segpipe": code.version,
            "source_revision": code.revision,
            "dirty": code.dirty,
            "config_digest": digest(config),
            "dataset_digest": experiment.dataset_digest,
            "device": experiment.device.describe(),
            "start": start_record(experiment.start),
            "wanted": wanted,
            "folds": {},
        }
    )
    return run


def _note(run: RunFolder, fold: Fold, entry: dict[str, Any]) -> None:
    record = run.record()
    record["folds"][str(fold.index)] = entry
    run.write_record(record)


class _Tracking:
    """No tracking: runs have ids of their own, and nothing is recorded elsewhere."""

    def __init__(self) -> None:
        self.run_id = uuid.uuid4().hex

    @contextlib.contextmanager
    def fold(self, fold: Fold, run: RunFolder) -> Iterator[tuple[list[Observer], str]]:
        """Observers of one fold and the id of its run."""
        yield [], uuid.uuid4().hex

    def finish(
        self,
        fold: Fold,
        run: RunFolder,
        fold_run: str,
        evaluation: Evaluation | None,
        observer: Observer,
    ) -> None:
        """What is to be done when a fold is trained and scored."""


class _MlflowTracking(_Tracking):
    """A parent run, and a nested run per fold."""

    def __init__(self, experiment: Experiment, store: Any, parent: Any) -> None:
        self.experiment = experiment
        self.store = store
        self.parent = parent
        self.run_id = parent.run_id

    @contextlib.contextmanager
    def fold(self, fold: Fold, run: RunFolder) -> Iterator[tuple[list[Observer], str]]:
        config = self.experiment.config
        earlier = run.record()["folds"].get(str(fold.index), {}).get("run_id")
        name = f"fold {fold.index}, seed {config.train.seed}"
        note = f"Fold {fold.index} of {config.name}, seed {config.train.seed}: one network."
        origin = self.experiment.origin
        with self.store.run(
            config.name, name, run_id=earlier, parent=self.run_id, tags=origin.tags(note)
        ) as nested:
            nested.params({**self.experiment.params(), "fold": fold.index})
            origin.describe(nested, note, FOLD_LINKS)
            yield [nested], nested.run_id

    def finish(
        self,
        fold: Fold,
        run: RunFolder,
        fold_run: str,
        evaluation: Evaluation | None,
        observer: Observer,
    ) -> None:
        config = self.experiment.config
        folds = [entry.get("figures", {}) for entry in run.record()["folds"].values()]
        done = [figures for figures in folds if figures]
        if done:
            means = {f"scores/{key}": _mean([one[key] for one in done]) for key in done[0]}
            self.parent.metrics(means, step=len(done))
        page = run.fold(fold.index) / "validation" / "cohort.html"
        if page.is_file():
            self.parent.artifact(page, f"fold-{fold.index}")
        if not config.tracking.register_model:
            return
        from segpipe.tracking import register

        metric = config.tracking.champion_metric
        value = float("nan") if evaluation is None else evaluation.figures()[metric]
        bundle = run.bundle(fold.index)
        made = register(self.store, config.name, bundle, fold_run, metric, value)
        observer.message(f"registered models:/{config.name}/{made.version} ({made.reason})")


def _mean(values: Sequence[float | None]) -> float:
    """Over the folds in which a figure is defined; NaN where it is in none."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else math.nan


@contextlib.contextmanager
def _tracking(experiment: Experiment, run: RunFolder | None) -> Iterator[_Tracking]:
    config = experiment.config
    if not config.tracking.enabled:
        yield _Tracking()
        return
    from segpipe.tracking import Store

    store = Store(config.output)
    cases = (*experiment.dataset.cases, *experiment.dataset.test_cases)
    store.identifiers.add([case.id for case in cases] + [case.patient for case in cases])
    origin = experiment.origin
    note = (
        f"Training of {config.name} on {experiment.dataset.name}. Its folds are nested runs; "
        "`scores/…` are means over the folds that are done."
    )
    earlier = None if run is None else run.id
    with store.run(
        config.name, f"{config.name} training", run_id=earlier, tags=origin.tags(note)
    ) as parent:
        parent.params(experiment.params())
        origin.describe(parent, note, {"cohort reports of the folds": ""})
        yield _MlflowTracking(experiment, store, parent)
