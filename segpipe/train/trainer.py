"""The Keras model that training steps run on: a network and its compound loss."""

from __future__ import annotations

import keras

from segpipe.config import TrainConfig
from segpipe.losses.compound import CompoundLoss
from segpipe.train.schedules import WarmupDecay


class Trainer(keras.Model):
    """Wraps a network so that ``fit`` minimises the compound loss and reports each term.

    Parameters
    ----------
    network : keras.Model
        Logits, or a list of them from deep supervision.
    objective : CompoundLoss
    """

    def __init__(self, network: keras.Model, objective: CompoundLoss) -> None:
        super().__init__(name="trainer")
        self.network = network
        self.objective = objective
        self.step = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="step"
        )
        self.means = [keras.metrics.Mean(name=name) for name in objective.names]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The total and its terms, averaged over the epoch."""
        return [self._loss_tracker, *self.means]

    def call(self, x, training=None):
        """Logits of ``x``."""
        return self.network(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The total, as a scalar; updates the averages and the step counter."""
        terms = self.objective.terms(y_pred, y, self.step)
        for mean in self.means:
            mean.update_state(keras.ops.mean(terms[mean.name]))
        self.step.assign(self.step + 1)
        return keras.ops.mean(terms["total"])


def make_optimizer(config: TrainConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """AdamW or Nesterov SGD with warm-up, decay and gradient clipping.

    Parameters
    ----------
    config : TrainConfig
    total_steps : int
        Length of the schedule.
    """
    schedule = WarmupDecay(config.learning_rate, total_steps, config.warmup, config.schedule)
    clip = config.clip_norm or None
    if config.optimizer == "adamw":
        return keras.optimizers.AdamW(
            schedule, weight_decay=config.weight_decay, global_clipnorm=clip
        )
    return keras.optimizers.SGD(
        schedule,
        momentum=0.99,
        nesterov=True,
        weight_decay=config.weight_decay or None,
        global_clipnorm=clip,
    )
