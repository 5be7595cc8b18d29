"""Learning rate by step: a linear warm-up, then a decay."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="segpipe")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0, then polynomial (power 0.9), cosine or no decay to 0.

    Parameters
    ----------
    peak : float
        Learning rate at the end of the warm-up.
    total_steps : int
    warmup : float
        Share of the steps with a rising rate, in [0, 1].
    decay : {'poly', 'cosine', 'constant'}

    Attributes
    ----------
    pace : (2,) float sequence or variable
        Origin and length of the schedule in steps: (0, total_steps), until a shortened training
        says otherwise (:func:`segpipe.train.budget.shortened_pace`).

    Examples
    --------
    >>> schedule = WarmupDecay(1.0, total_steps=10, warmup=0.2, decay="cosine")
    >>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def __init__(self, peak: float, total_steps: int, warmup: float, decay: str) -> None:
        self.peak = peak
        self.total_steps = total_steps
        self.warmup = warmup
        self.decay = decay
        self.pace: Any = (0.0, float(total_steps))
        self._held: Any = None

    def follow(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Keep the pace in a variable of a built optimizer, so that compiled steps see it change.

        Parameters
        ----------
        optimizer : keras.optimizers.Optimizer
            The one whose learning rate this is.
        """
        before = self.pace
        self.pace = optimizer.add_variable(shape=(2,), dtype="float32", name="pace")
        self.pace.assign(before)

    @contextlib.contextmanager
    def held(self, step) -> Iterator[None]:
        """Inside, every call has the rate at ``step``, computed once."""
        self._held = self(step)
        try:
            yield
        finally:
            self._held = None

    def __call__(self, step):
        """Learning rate at ``step``, counted from 0."""
        if self._held is not None:
            return self._held
        origin, length = self.pace[0], self.pace[1]
        step = ops.cast(step, "float32") - origin
        rising = ops.maximum(1.0, self.warmup * length)
        falling = ops.maximum(1.0, length - rising)
        left = ops.clip(1.0 - (step - rising) / falling, 0.0, 1.0)
        if self.decay == "poly":
            decayed = left**0.9
        elif self.decay == "cosine":
            decayed = 0.5 * (1.0 - ops.cos(math.pi * left))
        else:
            decayed = ops.ones_like(left)
        warm = ops.clip((step + 1.0) / rising, 0.0, 1.0) if self.warmup else ops.ones_like(left)
        return self.peak * ops.minimum(warm, decayed)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup": self.warmup,
            "decay": self.decay,
        }
