"""All that a training remembers between epochs, in one checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from segpipe.model.arrays import assign_arrays, network_arrays
from segpipe.observer import Observer
from segpipe.train.budget import Budget
from segpipe.train.checkpoints import load_checkpoint, save_checkpoint
from segpipe.train.trainer import Trainer

Arrays = dict[str, np.ndarray]


@dataclass
class Progress:
    """What early stopping and the choice of the best weights remember between epochs.

    ``steps`` are those of the whole training, ``planned`` those that are planned by now,
    ``shortened`` whether they were more at first, and ``seconds`` what the fitting took so far, of
    a training with a budget.
    """

    best: float = -math.inf
    best_epoch: int = 0
    validations_since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    planned: int = 0
    shortened: bool = False
    seconds: float | None = None

    def to_state(self) -> dict[str, Any]:
        """JSON-able; minus infinity becomes None."""
        best = self.best if math.isfinite(self.best) else None
        return {
            "best": best,
            "best_epoch": self.best_epoch,
            "validations_since_best": self.validations_since_best,
            "history": self.history,
            "shortened": self.shortened,
        }

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> Progress:
        """Inverse of :meth:`to_state`."""
        best = -math.inf if state["best"] is None else state["best"]
        return Progress(
            best,
            state["best_epoch"],
            state["validations_since_best"],
            state["history"],
            shortened=state.get("shortened", False),
        )


def training_arrays(trainer: Trainer) -> Arrays:
    """Every array that a step changes: weights, optimiser, step counter, averaged weights."""
    names = network_arrays(trainer.network)
    arrays = {f"network/{name}": array for name, array in names.items()}
    arrays["step"] = np.asarray(trainer.step)
    variables = _optimizer_variables(trainer)
    arrays |= {f"optimizer/{i:04d}": np.asarray(v) for i, v in enumerate(variables)}
    averages = zip(names, trainer.averages, strict=False)
    return arrays | {f"average/{name}": np.asarray(v) for name, v in averages}


def assign_training(trainer: Trainer, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Inverse of :func:`training_arrays`; other arrays are passed over."""
    assign_arrays(trainer.network, _group(arrays, "network"), where)
    optimizer = _group(arrays, "optimizer").values()
    for variable, array in zip(_optimizer_variables(trainer), optimizer, strict=True):
        variable.assign(array)
    averages = _group(arrays, "average").values()
    for variable, array in zip(trainer.averages, averages, strict=True):
        variable.assign(array)
    trainer.step.assign(int(arrays["step"]))


def save_state(
    trainer: Trainer,
    folder: Path,
    epoch: int,
    progress: Progress,
    best: Arrays | None,
    budget: Budget | None,
) -> None:
    """Write a checkpoint after ``epoch`` epochs.

    Parameters
    ----------
    trainer : Trainer
    folder : Path
    epoch : int
    progress : Progress
    best : dict of str to ndarray or None
        Weights to keep beside the present ones.
    budget : Budget or None
    """
    arrays = training_arrays(trainer)
    arrays |= {f"best/{name}": array for name, array in (best or {}).items()}
    state = progress.to_state()
    if budget is not None:
        state["budget"] = budget.to_state()
    save_checkpoint(folder, epoch, arrays, state)


def restore_state(
    trainer: Trainer, folder: Path, budget: Budget | None, observer: Observer
) -> tuple[Progress, int, Arrays | None]:
    """Go on from the newest intact checkpoint.

    Returns
    -------
    progress : Progress
    epoch : int
        Epochs done; 0 where there is no checkpoint.
    best : dict of str to ndarray or None
    """
    checkpoint = load_checkpoint(folder, observer)
    if checkpoint is None:
        observer.message("no checkpoint yet: starting from the beginning")
        return Progress(), 0, None
    assign_training(trainer, checkpoint.arrays, str(folder))
    if budget is not None:
        budget.restore(checkpoint.state["budget"])
    observer.message(f"resumed after epoch {checkpoint.epoch}")
    best = _group(checkpoint.arrays, "best") or None
    return Progress.from_state(checkpoint.state), checkpoint.epoch, best


def _optimizer_variables(trainer: Trainer) -> list[keras.Variable]:
    """Those that a step changes: the schedule's pace is no part of the state."""
    pace = None if trainer.schedule is None else trainer.schedule.pace
    return [variable for variable in trainer.optimizer.variables if variable is not pace]


def _group(arrays: Mapping[str, np.ndarray], name: str) -> Arrays:
    start = f"{name}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
