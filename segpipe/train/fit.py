"""Training of one fold: bitwise repeatable, interrupted or not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from segpipe.backend import Device, is_out_of_memory
from segpipe.backend.callbacks import choose_labelling
from segpipe.batches import PatchBatches, PatchSampler
from segpipe.config import Config
from segpipe.errors import ModelError
from segpipe.losses.compound import CompoundLoss
from segpipe.model.bundle import assign_arrays, network_arrays
from segpipe.observer import Observer
from segpipe.train.checkpoints import load_checkpoint, save_checkpoint
from segpipe.train.trainer import Trainer, make_optimizer

Validate = Callable[[Any, int], Mapping[str, float]]


@dataclass
class Progress:
    """What early stopping and the choice of the best weights remember between epochs."""

    best: float = -math.inf
    best_epoch: int = 0
    validations_since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def to_state(self) -> dict[str, Any]:
        """JSON-able; minus infinity becomes None."""
        best = self.best if math.isfinite(self.best) else None
        return {
            "best": best,
            "best_epoch": self.best_epoch,
            "validations_since_best": self.validations_since_best,
            "history": self.history,
        }

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> Progress:
        """Inverse of :meth:`to_state`."""
        best = -math.inf if state["best"] is None else state["best"]
        return Progress(
            best, state["best_epoch"], state["validations_since_best"], state["history"]
        )


class _Watch(keras.callbacks.Callback):
    """Shows progress and stops at the first loss that is not a number."""

    def __init__(self, batches: PatchBatches, sampler: PatchSampler, device: Device, report):
        super().__init__()
        self.batches = batches
        self.sampler = sampler
        self.every = 1 if device.kind == "cpu" else 10  # each look waits for the device
        self.report = report

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """Look at the running loss."""
        if batch % self.every and batch + 1 < len(self.batches):
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            first = max(0, batch - self.every + 1)
            numbers = [n for b in range(first, batch + 1) for n in self.batches.numbers(b)]
            cases = sorted({self.sampler.cases[self.sampler.case_index(n)].id for n in numbers})
            raise ModelError(
                f"training: expected a finite loss; received {loss} at step {batch} of the epoch, "
                f"with patches from {', '.join(cases)}. Look at these cases, lower "
                "train.learning_rate, or train in float32; the last good checkpoint is kept."
            )
        self.report(batch + 1, loss)


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
    validate : callable, optional
        Network and epoch to metrics; must hold the one that ``train.monitor`` names.
    observer : Observer
    resume : bool
        Go on from the newest intact checkpoint.

    Returns
    -------
    Progress
        The network ends with the last or the best weights, as ``train.keep`` says.

    Raises
    ------
    ModelError
        If the loss is no longer a number, or the device's memory does not suffice.
    """
    settings = config.train
    total = settings.epochs * settings.steps_per_epoch
    trainer = _make_trainer(network, sampler, config, classes, device, total)
    progress, start, best = Progress(), 0, None
    if resume:
        progress, start, best = _restore(trainer, folder / "checkpoints", observer)
    for epoch in range(start, settings.epochs):
        if settings.patience and progress.validations_since_best >= settings.patience:
            observer.message(f"stopped after epoch {epoch}: no improvement in validation")
            break
        logs = _run_epoch(trainer, sampler, epoch, config, device, observer)
        last = epoch + 1 == settings.epochs
        due = bool(settings.validate_every) and (epoch + 1) % settings.validate_every == 0
        if validate is not None and (due or last):
            figures = dict(validate(network, epoch + 1))
            logs |= {f"val_{name}": value for name, value in figures.items()}
            if _improved(progress, figures[settings.monitor], epoch + 1):
                best = network_arrays(network)
        progress.history.append(logs)
        observer.metrics(logs, step=epoch + 1)
        observer.message(_summary(epoch + 1, settings.epochs, logs))
        _save(trainer, folder / "checkpoints", epoch + 1, progress, best, config)
    if settings.keep == "best" and best is not None:
        assign_arrays(network, best, "best weights")
    return progress


def _make_trainer(network, sampler, config, classes, device, total) -> Trainer:
    labelling = choose_labelling(config.loss.labelling, device)
    voxel_mm3 = float(np.prod(sampler.spacing_mm))
    objective = CompoundLoss(config.loss, classes, voxel_mm3, total, labelling)
    trainer = Trainer(network, objective)
    optimizer = make_optimizer(config.train, total)
    trainer.compile(optimizer=optimizer, jit_compile=device.jit)
    trainer.build((None, *network.input_shape[1:]))
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def _run_epoch(trainer, sampler, epoch, config, device, observer) -> dict[str, float]:
    settings = config.train
    batches = PatchBatches(
        sampler.draw,
        epoch=epoch,
        steps=settings.steps_per_epoch,
        batch=settings.batch,
        workers=settings.workers,
    )
    done = epoch * settings.steps_per_epoch
    total = settings.epochs * settings.steps_per_epoch

    def report(step: int, loss: float) -> None:
        observer.progress(done + step, total, f"epoch {epoch + 1}, loss {loss:.3f}")

    started = time.perf_counter()
    try:
        history = trainer.fit(
            batches, shuffle=False, verbose=0, callbacks=[_Watch(batches, sampler, device, report)]
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise _out_of_memory(settings) from error
        raise
    logs = {name: float(values[-1]) for name, values in history.history.items()}
    seconds = time.perf_counter() - started
    voxels = settings.steps_per_epoch * settings.batch * math.prod(settings.patch)
    rate = trainer.optimizer.learning_rate
    return logs | {"learning_rate": float(rate), "voxels_per_second": voxels / seconds}


def _out_of_memory(settings) -> ModelError:
    smaller = tuple(max(16, p * 3 // 4 // 16 * 16) for p in settings.patch)
    hint = f"train.batch={settings.batch // 2}" if settings.batch > 1 else f"train.patch={smaller}"
    return ModelError(
        f"training: patch {settings.patch} with batch {settings.batch} does not fit into the "
        f"device's memory. Try {hint}, or fewer model.features."
    )


def _improved(progress: Progress, value: float, epoch: int) -> bool:
    if math.isnan(value) or value <= progress.best:
        progress.validations_since_best += 1
        return False
    progress.best, progress.best_epoch, progress.validations_since_best = value, epoch, 0
    return True


def _save(trainer, folder, epoch, progress, best, config) -> None:
    arrays = {f"network/{k}": v for k, v in network_arrays(trainer.network).items()}
    variables = trainer.optimizer.variables
    arrays["step"] = np.asarray(trainer.step)
    arrays |= {f"optimizer/{i:04d}": np.asarray(v) for i, v in enumerate(variables)}
    if config.train.keep == "best" and best is not None:
        arrays |= {f"best/{k}": v for k, v in best.items()}
    save_checkpoint(folder, epoch, arrays, progress.to_state())


def _restore(trainer, folder, observer):
    checkpoint = load_checkpoint(folder, observer)
    if checkpoint is None:
        observer.message("no checkpoint yet: starting from the beginning")
        return Progress(), 0, None
    groups: dict[str, dict[str, np.ndarray]] = {"network": {}, "optimizer": {}, "best": {}}
    for name, array in checkpoint.arrays.items():
        group, found, rest = name.partition("/")
        if found:
            groups[group][rest] = array
    assign_arrays(trainer.network, groups["network"], str(folder))
    for variable, array in zip(
        trainer.optimizer.variables, groups["optimizer"].values(), strict=True
    ):
        variable.assign(array)
    trainer.step.assign(int(checkpoint.arrays["step"]))
    observer.message(f"resumed after epoch {checkpoint.epoch}")
    return Progress.from_state(checkpoint.state), checkpoint.epoch, groups["best"] or None


def _summary(epoch: int, epochs: int, logs: Mapping[str, float]) -> str:
    penalties = ("voxel_count", "region_count", "missed")
    names = ("loss", "bce", "dice", *penalties, "val_dice", "val_lesion_f1")
    figures = [f"{n} {logs[n]:.3f}" for n in names if n in logs and not math.isnan(logs[n])]
    return f"epoch {epoch}/{epochs}: " + ", ".join(figures)
