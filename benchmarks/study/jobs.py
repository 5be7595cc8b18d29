"""What the study trains: datasets, folds, seeds and arms, as a list that can stop and go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

CONTROL = "plain"
SEEDS = 3
_VOXEL = {"loss.voxel_count.weight": 0.05}
_REGION = {"loss.region_count.weight": 0.1}
_MISSED = {"loss.missed.weight": 0.1}
ARMS: dict[str, dict[str, float]] = {
    CONTROL: {},
    "all": _VOXEL | _REGION | _MISSED,
    "region+missed": _REGION | _MISSED,
    "region+missed, threefold": dict.fromkeys(_REGION | _MISSED, 0.3),
    "voxel": _VOXEL,
    "region": _REGION,
    "all, no anatomy": _VOXEL | _REGION | _MISSED,
}
"""Weights that each arm switches on, in the order of their worth: an interrupted study has the
first ones."""

SHIFTED = "all, shifted 10 mm"
"""The arm "all" with its regions moved on purpose; trained after all others, read by itself."""

_SCHEDULE = ("loss.ramp_start=0.4", "loss.ramp_end=0.6", "train.validate_every=0")
_SMALL = (
    *("model.features=[16, 32, 64]", "train.patch=[48, 48, 32]", "train.batch=2"),
    *("train.epochs=10", "train.steps_per_epoch=50", "predict.overlap=0.25"),
)
DATASETS = {
    "ms_lesions": ("configs/ms_lesions.yaml", _SMALL, 6),
    "samples": ("configs/samples.yaml", _SMALL, 5),
}
"""Configuration, overrides, and number of folds."""


@dataclass(frozen=True)
class Job:
    """One training: an arm of a fold with a seed, forked from the base that its arms share."""

    dataset: str
    fold: int
    seed: int
    arm: str

    def __str__(self) -> str:
        return f"{self.dataset}, seed {self.seed}, fold {self.fold}, {self.arm}"

    @property
    def result(self) -> Path:
        """Where its counts are written; there once it is done."""
        arm = self.arm.replace(", ", "-").replace(" ", "-")
        return RESULTS / self.dataset / f"seed{self.seed}-fold{self.fold}-{arm}.json"

    @property
    def config(self) -> Path:
        """The configuration that it starts from."""
        return Path(DATASETS[self.dataset][0])

    def overrides(self) -> list[str]:
        """What makes the configuration that of this job."""
        weights = dict.fromkeys(ARMS["all"], 0.0) | ARMS["all" if self.arm == SHIFTED else self.arm]
        switches = [f"{name}={weight:g}" for name, weight in weights.items()]
        anatomy = ["anatomy.regions=[]"] if self.arm.endswith("no anatomy") else []
        own = [f"train.seed={self.seed}", "tracking.enabled=false", "evaluate.choose=fixed"]
        return [*DATASETS[self.dataset][1], *_SCHEDULE, *own, *switches, *anatomy]


def all_jobs(datasets: tuple[str, ...] = tuple(DATASETS), seeds: int = SEEDS) -> Iterator[Job]:
    """Every job, seed by seed and arm by arm: the first arms are whole before the last begin.

    The check with shifted regions comes after everything else.
    """
    for seed in range(seeds):
        for dataset in datasets:
            for arm in ARMS:
                for fold in range(DATASETS[dataset][2]):
                    yield Job(dataset, fold, seed, arm)
    for seed in range(seeds):
        for dataset in datasets:
            for fold in range(DATASETS[dataset][2]):
                yield Job(dataset, fold, seed, SHIFTED)
