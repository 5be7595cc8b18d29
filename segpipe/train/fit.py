"""Training of one fold: bitwise repeatable, interrupted or not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from segpipe.backend import Device
from segpipe.backend.callbacks import choose_labelling
from segpipe.batches import PatchSampler
from segpipe.config import Config, TrainConfig
from segpipe.losses.compound import CompoundLoss
from segpipe.model.arrays import assign_arrays, network_arrays
from segpipe.observer import Observer
from segpipe.train.budget import Budget
from segpipe.train.epochs import Fitting, Validate, run_epoch
from segpipe.train.state import Progress, restore_state, save_state
from segpipe.train.timekeeping import keep_to_budget, plan_steps
from segpipe.train.trainer import Objective, Trainer

_OF_VALIDATION = "val_"


def fit(
    network: keras.Model,
    sampler: PatchSampler,
    *,
    config: Config,
    classes: int,
    device: Device,
    folder: Path,
    validate: Validate | None,
    observer: Observer,
    resume: bool = False,
    objective: Objective | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """Train a network in place.

    Parameters
    ----------
    network : keras.Model
        As :func:`segpipe.model.unet.build_unet` makes it.
    sampler : PatchSampler
    config : Config
    classes : int
        Foreground classes.
    device : Device
    folder : Path
        For ``checkpoints/``.
    validate : Validate, optional
        Network to metrics; must hold the one that ``train.monitor`` names.
    observer : Observer
    resume : bool
        Go on from the newest intact checkpoint.
    objective : Objective, optional
        What is minimised; None: the compound loss of ``config.loss``.
    clock : callable
        Seconds that only grow; what ``train.budget`` goes by.

    Returns
    -------
    Progress
        The network ends with the last or the best weights, as ``train.keep`` says; averaged
        ones, if ``train.ema`` is above 0.

    Raises
    ------
    ModelError
        If the loss or a weight is no longer a number, the device's memory does not suffice, or
        the budget holds no step.
    """
    settings = config.train
    budget = None
    if settings.budget_seconds is not None:
        budget = Budget(
            settings.budget_seconds,
            settings.steps_per_epoch,
            settings.validate_every if validate is not None else 0,
            clock,
        )
    if objective is None:
        objective = _compound_loss(sampler, config, classes, device)
    total = settings.total_steps
    trainer = Trainer(network, objective, total, settings.ema)
    trainer.prepare(settings, total, jit=device.jit)
    fitting = Fitting(trainer, sampler, config, device, folder / "checkpoints", observer, budget)
    progress, epoch, best = Progress(), 0, None
    if resume:
        progress, epoch, best = restore_state(trainer, fitting.folder, budget, observer)
    _tell_what_cannot_be_chosen(settings, validate is not None, fitting)
    if budget is not None:
        if budget.total == 0:
            plan_steps(fitting, budget, validate)
        trainer.set_pace(budget.pace)
        progress.shortened |= keep_to_budget(fitting, epoch)
    while fitting.done < fitting.total:
        if settings.patience and progress.validations_since_best >= settings.patience:
            observer.message(f"stopped after epoch {epoch}: no improvement in validation")
            break
        logs = run_epoch(fitting, epoch)
        epoch += 1
        progress.shortened |= keep_to_budget(fitting, None)
        last = fitting.done >= fitting.total
        due = bool(settings.validate_every) and epoch % settings.validate_every == 0
        if validate is not None and (due or last):
            figures = _validate(fitting, validate, epoch)
            logs |= figures
            best = _best(fitting, progress, figures, epoch, best)
        progress.history.append(logs)
        observer.metrics(logs, step=epoch)
        left = math.ceil((fitting.total - fitting.done) / settings.steps_per_epoch)
        observer.message(_summary(epoch, epoch + left, logs))
        _save(fitting, epoch, progress, best)
        progress.shortened |= keep_to_budget(fitting, epoch)
    if validate is not None and progress.history and not _validated(progress.history[-1]):
        figures = _validate(fitting, validate, epoch)  # a delay ended it where none was due
        progress.history[-1] |= figures
        observer.metrics(figures, step=epoch)
        best = _best(fitting, progress, figures, epoch, best)
    trainer.take_averages()
    if settings.keep == "best" and best is not None:
        assign_arrays(network, best, "best weights")
    progress.steps, progress.planned = fitting.done, fitting.total
    progress.seconds = None if budget is None else budget.elapsed
    return progress


def _tell_what_cannot_be_chosen(settings: TrainConfig, validates: bool, fitting: Fitting) -> None:
    """Say so where ``train.keep`` and ``train.patience`` find at most one validation to act on."""
    asked = [
        f"train.{name}"
        for name, on in (("keep=best", settings.keep == "best"), ("patience", settings.patience))
        if on
    ]
    if not asked or (validates and settings.chooses_weights):
        return
    why = "train.validate_every is 0" if validates else "the fold holds no case out"
    if validates and settings.validate_every:
        why = f"train.validate_every={settings.validate_every} leaves the last validation alone"
    fitting.observer.message(f"{' and '.join(asked)} changes nothing, as {why}")


def _compound_loss(sampler, config, classes, device) -> CompoundLoss:
    labelling = choose_labelling(config.loss.labelling, device)
    return CompoundLoss(config.loss, classes, float(np.prod(sampler.spacing_mm)), labelling)


def _validated(logs: Mapping[str, float]) -> bool:
    return any(name.startswith(_OF_VALIDATION) for name in logs)


def _best(
    fitting: Fitting,
    progress: Progress,
    figures: Mapping[str, float],
    epoch: int,
    best: dict[str, np.ndarray] | None,
) -> dict[str, np.ndarray] | None:
    """The best weights by now, where they are kept; notes how the figures compare."""
    settings = fitting.config.train
    better = _improved(progress, figures[f"{_OF_VALIDATION}{settings.monitor}"], epoch)
    if not better or settings.keep != "best":
        return best
    with fitting.trainer.averaged():
        return network_arrays(fitting.trainer.network)


def _validate(fitting: Fitting, validate: Validate, epoch: int) -> dict[str, float]:
    started = None if fitting.budget is None else fitting.budget.clock()
    with fitting.trainer.averaged():
        figures = validate(fitting.trainer.network, epoch)
    if fitting.budget is not None and started is not None:
        fitting.budget.saw(validation=fitting.budget.clock() - started)
    return {f"{_OF_VALIDATION}{name}": value for name, value in figures.items()}


def _save(fitting: Fitting, epoch: int, progress: Progress, best) -> None:
    started = None if fitting.budget is None else fitting.budget.clock()
    save_state(fitting.trainer, fitting.folder, epoch, progress, best, fitting.budget)
    if fitting.budget is not None and started is not None:
        fitting.budget.saw(checkpoint=fitting.budget.clock() - started)


def _improved(progress: Progress, value: float, epoch: int) -> bool:
    if math.isnan(value):  # nothing is known: neither better nor no better
        return False
    if value <= progress.best:
        progress.validations_since_best += 1
        return False
    progress.best, progress.best_epoch, progress.validations_since_best = value, epoch, 0
    return True


def _summary(epoch: int, epochs: int, logs: Mapping[str, float]) -> str:
    penalties = ("voxel_count", "region_count", "missed")
    names = ("loss", "bce", "dice", *penalties, "val_dice", "val_lesion_f1")
    figures = [f"{n} {logs[n]:.3f}" for n in names if n in logs and not math.isnan(logs[n])]
    return f"epoch {epoch}/{epochs}: " + ", ".join(figures)
