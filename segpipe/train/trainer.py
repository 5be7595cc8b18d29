"""The Keras model that training steps run on: a network and what it minimises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from segpipe.config import TrainConfig
from segpipe.train.schedules import WarmupDecay

_EARLY = 9.0  # of n steps, the average of the weights covers about the latest n / 9


class Objective(Protocol):
    """What a training minimises, such as :class:`segpipe.losses.compound.CompoundLoss`."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is reported beside the total."""

    def terms(self, logits: Any, target: Any, progress: Any) -> Mapping[str, Any]:
        """Scalars, or one per sample: ``total`` and :attr:`names`.

        Logits, or a list of them from deep supervision; the (B, \\*spatial, 2) class index and
        region weight of every voxel; the share of the training that is done.
        """


class Trainer(keras.Model):
    """Wraps a network so that ``fit`` minimises an objective and reports each of its terms.

    Parameters
    ----------
    network : keras.Model
        Logits, or a list of them from deep supervision.
    objective : Objective
    total_steps : int
        Of the whole training; the objective's ramp is a share of it.
    ema : float
        Decay of the average of the weights, in [0, 1); 0: there is none.

    Notes
    -----
    The average starts at the first weights, and before its decay is reached it decays by
    n / (n + 9) at step n: the polynomial-decay averaging of Shamir and Zhang, Stochastic Gradient
    Descent for Non-smooth Optimization, 2013, with η = 8. So a short training is averaged over
    its own end, and the first weights are forgotten. Keras' own averages are not used: they have
    no such start, leave out the statistics of batch normalisation, and replace the weights at the
    end of every ``fit``, which here is an epoch.
    """

    def __init__(
        self,
        network: keras.Model,
        objective: Objective,
        total_steps: int,
        ema: float = 0.0,
    ) -> None:
        super().__init__(name="trainer")
        self.network = network
        self.objective = objective
        self.ema = ema
        self.step = self._state("step", (), "int32")
        self.pace = self._state("pace", (2,), "float32")
        self.pace.assign((0.0, float(total_steps)))
        self.averages = [
            self._state(f"average{i}", v.shape, v.dtype)
            for i, v in enumerate(network.variables if ema else ())
        ]
        self.schedule: WarmupDecay | None = None
        self.means = [keras.metrics.Mean(name=name) for name in objective.names]

    def _state(self, name: str, shape: Sequence[int], dtype: str) -> keras.Variable:
        return self.add_weight(
            shape=shape, dtype=dtype, initializer="zeros", trainable=False, name=name
        )

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The total and its terms, averaged over the epoch."""
        return [self._loss_tracker, *self.means]

    def prepare(self, config: TrainConfig, total_steps: int, *, jit: bool) -> None:
        """Make optimizer and schedule, and every variable of theirs.

        Parameters
        ----------
        config : TrainConfig
        total_steps : int
            Length of the schedule, until :meth:`set_pace` says otherwise.
        jit : bool
            Whether XLA compiles the step.
        """
        self.schedule = WarmupDecay(
            config.learning_rate, total_steps, config.warmup, config.schedule
        )
        optimizer = make_optimizer(config, self.schedule)
        self.compile(optimizer=optimizer, jit_compile=jit)
        self.build((None, *self.network.input_shape[1:]))
        self.optimizer.build(self.trainable_variables)
        self.schedule.follow(optimizer)

    def set_pace(self, pace: tuple[float, float]) -> None:
        """Origin and length, in steps, of the learning rate's schedule and the objective's ramp."""
        self.pace.assign(pace)
        if self.schedule is not None:
            self.schedule.pace.assign(pace)

    def call(self, x, training=None):
        """Logits of ``x``."""
        return self.network(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The total, as a scalar; updates the averages and the step counter."""
        self._average()
        progress = (ops.cast(self.step, "float32") - self.pace[0]) / self.pace[1]
        terms = self.objective.terms(y_pred, y, progress)
        for mean in self.means:
            mean.update_state(ops.mean(terms[mean.name]))
        self.step.assign(self.step + 1)
        return ops.mean(terms["total"])

    def _average(self) -> None:
        """Take the present weights, those before this step, into the averages."""
        done = ops.cast(self.step, "float32")
        decay = ops.minimum(self.ema, done / (done + _EARLY))
        for average, variable in zip(self.averages, self.network.variables, strict=False):
            now = ops.stop_gradient(ops.convert_to_tensor(variable))
            average.assign(now + decay * (average - now))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the network has its averaged weights, if there are any."""
        own = [np.asarray(v) for v in self.network.variables] if self.averages else []
        self.take_averages()
        try:
            yield
        finally:
            for variable, array in zip(self.network.variables, own, strict=False):
                variable.assign(array)

    def take_averages(self) -> None:
        """Give the network its averaged weights, if there are any."""
        for variable, average in zip(self.network.variables, self.averages, strict=False):
            variable.assign(np.asarray(average))


def make_optimizer(config: TrainConfig, schedule: WarmupDecay) -> keras.optimizers.Optimizer:
    """AdamW or Nesterov SGD with gradient clipping; the weight decay is decoupled in both.

    Parameters
    ----------
    config : TrainConfig
    schedule : WarmupDecay
    """
    clip = config.clip_norm or None
    if config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(
            schedule, weight_decay=config.weight_decay, global_clipnorm=clip
        )
    else:
        optimizer = keras.optimizers.SGD(
            schedule,
            momentum=0.99,
            nesterov=True,
            weight_decay=config.weight_decay or None,
            global_clipnorm=clip,
        )
    return _with_one_rate_a_step(optimizer, schedule)


def _with_one_rate_a_step(
    optimizer: keras.optimizers.Optimizer, schedule: WarmupDecay
) -> keras.optimizers.Optimizer:
    """Let it compute its rate once a step; Keras does so again for the decay of every variable.

    At 31 variables that was a quarter of the operations of a step's graph. It is no subclass, for
    which Keras would leave out the faster updates that it has on torch.
    """
    apply = optimizer.apply

    def apply_held(grads, trainable_variables=None):
        with schedule.held(optimizer.iterations):
            apply(grads, trainable_variables)

    optimizer.apply = apply_held
    return optimizer
