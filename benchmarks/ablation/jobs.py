"""What the ablation trains: one change each, as a list that can stop and go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.config import Config, load

RESULTS = Path(__file__).parent / "results"

CONTROL = "control"
SEEDS = 3
_INTENSITIES = ("noise", "blur", "brightness", "contrast", "gamma", "bias_field", "low_resolution")
ARMS: dict[str, tuple[str, ...]] = {
    CONTROL: (),
    "deep supervision": ("model.deep_supervision=true",),
    "residual blocks": ("model.block=residual",),
    "averaged weights": ("train.ema=0.999",),
    "no augmentation": ("augment.enabled=false",),
    "no mirroring, rotation, scaling": (
        *("augment.mirror_axes=[]", "augment.rotate=0", "augment.scale=0"),
    ),
    "no change of intensities": tuple(f"augment.{name}=0" for name in _INTENSITIES),
    "elastic deformation": ("augment.elastic=0.2",),
    "foreground 0": ("train.foreground=0",),
    "foreground 0.9": ("train.foreground=0.9",),
    "SGD": ("train.optimizer=sgd", "train.learning_rate=0.01", "train.weight_decay=0.003"),
    "cosine decay": ("train.schedule=cosine",),
    "no cross-entropy": ("loss.bce=0",),
    "no Dice": ("loss.dice=0",),
    "no voxel count": ("loss.voxel_count.weight=0",),
    "batch normalisation": ("model.norm=batch",),
    "no normalisation": ("model.norm=none",),
}
"""Changes of each arm, in the order of interest: an interrupted ablation has the first ones."""

_COMMON = (
    "model.block=plain",  # the default until this ablation: what is compared stays what it was
    *("model.features=[8, 16, 32, 64]", "train.steps=300", "train.steps_per_epoch=100"),
    *("train.validate_every=0", "predict.overlap=0.25", "predict.engine=keras"),
    "prepare.workers=1",
    *("tracking.enabled=false", "loss.voxel_count.weight=0.05", "train.device=cpu"),
)
SAMPLES = "samples"
SAMPLE_CASES, SAMPLE_SEED = 40, 1
"""More samples than come with the project, and others: 13 of 25 are held out, not 2 of 10."""

DATASETS = {
    "hippocampus": (
        "configs/hippocampus.yaml",
        (*_COMMON, "train.patch=[40, 56, 40]", "train.batch=2", "augment.mirror_axes=[R, S]"),
    ),
    SAMPLES: (
        "configs/samples.yaml",
        (*_COMMON, "train.patch=[48, 48, 48]", "train.batch=2", "split.folds=2"),
    ),
}
"""Configuration and overrides. All arms of a dataset train on its fold 0."""


@dataclass(frozen=True)
class Job:
    """One training: an arm with a seed."""

    dataset: str
    seed: int
    arm: str

    def __str__(self) -> str:
        return f"{self.dataset}, seed {self.seed}, {self.arm}"

    @property
    def result(self) -> Path:
        """Where its figures are written; there once it is done."""
        arm = self.arm.replace(", ", "-").replace(" ", "-")
        return RESULTS / self.dataset / f"seed{self.seed}-{arm}.json"

    def read(self) -> dict[str, Any] | None:
        """Its result; None without one, or if it was trained with other settings than today's."""
        if not self.result.exists():
            return None
        found = json.loads(self.result.read_text())
        return found if found["overrides"] == self.overrides() else None

    def config(self, work: Path) -> Config:
        """Its configuration; caches, and the samples, lie in ``work``."""
        own = [*self.overrides(), f"output={work}"]
        if self.dataset == SAMPLES:
            own.append(f"data.root={work / SAMPLES}")
        return load(DATASETS[self.dataset][0], own)

    def overrides(self) -> list[str]:
        """What makes the configuration that of this job."""
        return [*DATASETS[self.dataset][1], f"train.seed={self.seed}", *ARMS[self.arm]]


def all_jobs(datasets: tuple[str, ...] = tuple(DATASETS), seeds: int = SEEDS) -> Iterator[Job]:
    """Every job: with the first seed all arms, then with the next."""
    for seed in range(seeds):
        for arm in ARMS:
            for dataset in datasets:
                yield Job(dataset, seed, arm)
