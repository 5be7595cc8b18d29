"""Training steps of segpipe's own trainer on made-up batches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from segpipe.backend.callbacks import Labelling
from segpipe.backend.feeding import feed
from segpipe.config import (
    LossConfig,
    ModelConfig,
    RegionCountConfig,
    TrainConfig,
    VoxelCountConfig,
)
from segpipe.losses.compound import CompoundLoss
from segpipe.model.unet import build_unet
from segpipe.train.trainer import Objective, Trainer


@dataclass(frozen=True)
class Work:
    """What one training step computes."""

    features: tuple[int, ...]
    patch: tuple[int, ...]
    batch: int
    channels: int = 2

    @property
    def voxels(self) -> int:
        return int(np.prod(self.patch)) * self.batch

    def __str__(self) -> str:
        size = "×".join(map(str, self.patch))
        return f"{size}, batch {self.batch}, {'-'.join(map(str, self.features))}"


PENALTIES = LossConfig(ramp_start=0.0, ramp_end=0.0, region_count=RegionCountConfig(weight=0.1))
"""Voxel count, region count and missed lesions, at full weight from the second step on."""

PLAIN = LossConfig(voxel_count=VoxelCountConfig(weight=0.0))
"""None of them."""


class _Repeated(keras.utils.PyDataset):
    """One batch again and again."""

    def __init__(self, batch: tuple[np.ndarray, np.ndarray], steps: int) -> None:
        super().__init__()
        self.content = batch
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.content


def make_trainer(
    work: Work, loss: LossConfig | Objective, *, jit: bool, labelling: Labelling = "graph"
) -> Trainer:
    """A compiled trainer that minimises ``loss``; ``labelling`` is that of a configured one."""
    model = ModelConfig(features=work.features, dimensions=len(work.patch))
    network = build_unet(model, work.patch, (1.0,) * len(work.patch), work.channels, 1)
    if isinstance(loss, LossConfig):
        loss = CompoundLoss(loss, 1, 1.0, labelling)
    trainer = Trainer(network, loss, 1)
    trainer.prepare(TrainConfig(), 1000, jit=jit)
    return trainer


def make_batch(work: Work, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with bright cubes of at most 6³ voxels for lesions.

    Returns
    -------
    image : (B, \\*patch, C) float32 ndarray
    target : (B, \\*patch, 2) float32 ndarray
        Class and region weight, 1 everywhere.
    """
    rng = np.random.default_rng([seed, 71])
    image = rng.normal(size=(work.batch, *work.patch, work.channels)).astype(np.float32)
    target = np.zeros((work.batch, *work.patch, 2), np.float32)
    edges = [max(1, min(6, n // 4)) for n in work.patch]
    for sample in range(work.batch):
        for _ in range(1 + work.voxels // work.batch // 20_000):
            start = [rng.integers(n - e + 1) for n, e in zip(work.patch, edges, strict=True)]
            box = tuple(slice(s, s + e) for s, e in zip(start, edges, strict=True))
            image[sample][box] += 3.0
            target[sample, ..., 0][box] = 1.0
    target[..., 1] = 1.0
    return image, target


def seconds_per_step(trainer: Any, batch: tuple[np.ndarray, np.ndarray], steps: int) -> float:
    """Mean over ``steps`` steps of ``fit``, from its start to its end.

    Raises
    ------
    ArithmeticError
        If the loss is not a number: the time would mean nothing.
    """
    started = time.perf_counter()
    history = trainer.fit(feed(_Repeated(batch, steps)), shuffle=False, verbose=0)
    taken = (time.perf_counter() - started) / steps
    loss = history.history["loss"][-1]
    if not np.isfinite(loss):
        raise ArithmeticError(f"benchmark: expected a finite loss; received {loss}")
    return taken
