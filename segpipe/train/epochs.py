"""Steps and epochs of a training, watched."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from segpipe.backend import Device, is_out_of_memory
from segpipe.backend.feeding import feed
from segpipe.batches import PatchBatches, PatchSampler
from segpipe.config import Config
from segpipe.errors import ModelError
from segpipe.observer import Observer
from segpipe.train.budget import Budget
from segpipe.train.trainer import Trainer


class Validate(Protocol):
    """Whole volumes, predicted and scored."""

    def __call__(self, network: Any, epoch: int) -> Mapping[str, float]:
        """Figures after an epoch; that which ``train.monitor`` names is among them."""

    def sample(self, network: Any) -> float:
        """Do a part of the work; returns its share of the whole, in (0, 1]."""


@dataclass
class Fitting:
    """What all epochs of a training have in common."""

    trainer: Trainer
    sampler: PatchSampler
    config: Config
    device: Device
    folder: Path
    observer: Observer
    budget: Budget | None

    @property
    def total(self) -> int:
        """Steps planned by now; 0 before a budget is measured."""
        return self.config.train.total_steps if self.budget is None else self.budget.total

    @property
    def done(self) -> int:
        """Steps done."""
        return int(self.trainer.step)


class _Watch(keras.callbacks.Callback):
    """Shows progress, stops at the first loss that is not a number, and when it is told to.

    The loss of a step is that of the weights before it; so after the last step, the weights are
    looked at themselves.

    Parameters
    ----------
    batches : PatchBatches
    sampler : PatchSampler
    every : int
        Steps between two looks: each waits for the device.
    report : callable
        Steps of this epoch and loss.
    stop : callable
        Steps of this epoch to whether to stop after them.
    """

    def __init__(
        self,
        batches: PatchBatches,
        sampler: PatchSampler,
        every: int,
        report: Callable[[int, float], None],
        stop: Callable[[int], bool],
    ) -> None:
        super().__init__()
        self.batches = batches
        self.sampler = sampler
        self.every = every
        self.report = report
        self.stop = stop
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """Look at the training; the next step can begin after that."""
        self._look(batch, logs)
        self.ends.append(time.perf_counter())

    def _look(self, batch: int, logs) -> None:
        """At the running loss, and after the last step at the weights."""
        last = batch + 1 >= len(self.batches)
        if batch % self.every and not last:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise self._diverged(batch, "a finite loss", str(loss))
        self.report(batch + 1, loss)
        stopped = self.stop(batch + 1)
        if (last or stopped) and not _finite(self.model.network.variables):
            raise self._diverged(batch, "finite weights", "others")
        if stopped:
            self.model.stop_training = True

    def _diverged(self, batch: int, expected: str, received: str) -> ModelError:
        first = max(0, batch - self.every)  # what broke the weights came before it showed
        numbers = [n for b in range(first, batch + 1) for n in self.batches.numbers(b)]
        cases = sorted({self.sampler.cases[self.sampler.case_index(n)].id for n in numbers})
        return ModelError(
            f"training: expected {expected}; received {received} at step {batch} of the epoch, "
            f"with patches from {', '.join(cases)}. Look at these cases, lower "
            "train.learning_rate, or train in float32; the last good checkpoint is kept."
        )


def _finite(variables: Sequence[keras.Variable]) -> bool:
    return all(np.isfinite(np.asarray(variable)).all() for variable in variables)


def run_epoch(fitting: Fitting, epoch: int) -> dict[str, float]:
    """Train an epoch, or less of it if the budget is in danger; returns its figures."""
    settings, budget, done = fitting.config.train, fitting.budget, fitting.done
    steps = min(settings.steps_per_epoch, fitting.total - done)
    every = 1 if fitting.device.kind == "cpu" else 10

    def report(step: int, loss: float) -> None:
        text = f"epoch {epoch + 1}, loss {loss:.3f}"
        fitting.observer.progress(done + step, fitting.total, text)

    def stop(step: int) -> bool:
        if budget is None:
            return False
        budget.tick(done + step)
        return budget.late(done + step)

    figures = run_steps(fitting, done, steps, every, report, stop)
    return figures | {"learning_rate": float(fitting.trainer.optimizer.learning_rate)}


def run_steps(fitting, done, steps, every, report, stop) -> dict[str, float]:
    """At most ``steps`` steps after ``done`` others; returns the mean of every term, and speeds."""
    settings = fitting.config.train
    started = time.perf_counter()
    batches = PatchBatches(
        fitting.sampler.draw,
        start=done,
        steps=steps,
        batch=settings.batch,
        workers=settings.workers,
    )
    watch = _Watch(batches, fitting.sampler, every, report, stop)
    try:
        history = fitting.trainer.fit(feed(batches), shuffle=False, verbose=0, callbacks=[watch])
    except Exception as error:
        if is_out_of_memory(error):
            raise _out_of_memory(settings) from error
        raise
    finally:
        batches.close()
    seconds = time.perf_counter() - started
    voxels = (fitting.done - done) * settings.batch * math.prod(settings.patch)
    return {name: float(values[-1]) for name, values in history.history.items()} | {
        "voxels_per_second": voxels / seconds,
        "waiting_share": waited(watch.ends, batches.handed) / seconds,
    }


def waited(ends: Sequence[float], handed: Mapping[int, float]) -> float:
    """How long steps stood still for their batches; the first, which starts the loading, aside.

    Parameters
    ----------
    ends : sequence of float
        When each step ended and the next could have begun, in seconds.
    handed : dict of int to float
        When the batch of each step was there.

    Returns
    -------
    float
        Seconds. Where the device computes while the program goes on, as a GPU does, it may have
        used a part of them.

    Examples
    --------
    >>> waited([12.0, 15.0, 18.0], {0: 9.0, 1: 12.5, 2: 14.0})
    0.5
    """
    return sum(max(0.0, handed[i] - end) for i, end in enumerate(ends, 1) if i in handed)


def _out_of_memory(settings) -> ModelError:
    patch = list(settings.patch)
    smaller = [min(p, max(16, p * 3 // 4 // 16 * 16)) for p in patch]
    hints = ["fewer model.features"]
    if settings.batch > 1:
        hints.insert(0, f"train.batch={settings.batch // 2}")
    elif smaller != patch:
        hints.insert(0, f"train.patch=[{','.join(map(str, smaller))}]")
    return ModelError(
        f"training: patch {patch} with batch {settings.batch} does not fit into the device's "
        f"memory. Try {', or '.join(hints)}."
    )
