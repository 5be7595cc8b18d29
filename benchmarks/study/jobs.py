"""What the study trains: datasets, folds, seeds and arms, as a list that can stop and go on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from benchmarks.jobs import code_digest, differing
from segpipe.config import Config, digest_values, load

RESULTS = Path(__file__).parent / "results"

Setting = tuple[float, float, float | None]
"""Minimum size in mm³, threshold, core threshold: a way from probabilities to a mask."""

CONTROL = "plain"
PUBLISHED = "blob loss"
"""The arm that minimises :class:`benchmarks.blob_loss.BlobLoss` once the arms have forked."""
SEEDS = 3
_VOXEL = {"loss.voxel_count.weight": 0.05}
_REGION = {"loss.region_count.weight": 0.1}
_MISSED = {"loss.missed.weight": 0.1}
_FROM = {"loss.voxel_count.threshold": 0.2, "loss.threshold_end": 0.2}
ARMS: dict[str, dict[str, float]] = {
    CONTROL: {},
    "all": _VOXEL | _REGION | _MISSED,
    "region+missed": _REGION | _MISSED,
    "region+missed, threefold": dict.fromkeys(_REGION | _MISSED, 0.3),
    "voxel": _VOXEL,
    "region": _REGION,
    "all, no anatomy": _VOXEL | _REGION | _MISSED,
    "all, from 0.2": _VOXEL | _REGION | _MISSED | _FROM,
    PUBLISHED: {},
}
"""Weights that each arm switches on, and thresholds above which it counts; 0.5 otherwise."""

SHIFTED = "all, shifted 10 mm"
"""The arm "all" with its regions moved on purpose; read by itself."""

_SCHEDULE = ("loss.ramp_start=0.4", "loss.ramp_end=0.6", "train.validate_every=0")
_SMALL = (
    *("model.features=[8, 16, 32, 64]", "train.patch=[48, 48, 32]", "train.batch=2"),
    *("train.epochs=10", "train.steps_per_epoch=50", "predict.overlap=0.25", "prepare.workers=1"),
    "train.precision=float32",  # "auto" depends on the machine, and seeds may be of several
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
    def block(self) -> tuple[str, int, int]:
        """Dataset, seed and fold: its arms share a base, and are compared with each other."""
        return self.dataset, self.seed, self.fold

    def base(self) -> str:
        """How the name of its base begins: with what trained it.

        The rest of the name is drawn by chance, so that the base of another round or machine is
        never taken for this one.
        """
        control = Job(self.dataset, self.fold, self.seed, CONTROL).config()
        key = digest_values([control.model_dump(mode="json"), code()])[:12]
        return f"{self.dataset}-seed{self.seed}-fold{self.fold}-{key}"

    def config(self, *further: str) -> Config:
        """Its configuration, with further overrides."""
        return load(DATASETS[self.dataset][0], [*self.overrides(), *further])

    def overrides(self) -> list[str]:
        """What makes the configuration that of this job."""
        weights = dict.fromkeys(ARMS["all"], 0.0) | ARMS["all" if self.arm == SHIFTED else self.arm]
        switches = [f"{name}={weight:g}" for name, weight in weights.items()]
        anatomy = ["anatomy.regions=[]"] if self.arm.endswith("no anatomy") else []
        own = [f"train.seed={self.seed}", "tracking.enabled=false", "evaluate.choose=fixed"]
        return [*DATASETS[self.dataset][1], *_SCHEDULE, *own, *switches, *anatomy]


def all_jobs(datasets: tuple[str, ...] = tuple(DATASETS), seeds: int = SEEDS) -> Iterator[Job]:
    """Every job: all arms of a fold one after the other, with the first seed, then with the next.

    So an interrupted study has whole folds, but for one.
    """
    for seed in range(seeds):
        for dataset in datasets:
            for fold in range(DATASETS[dataset][2]):
                for arm in (*ARMS, SHIFTED):
                    yield Job(dataset, fold, seed, arm)


def what_is_left(listed: Sequence[Job], bases: Path) -> list[list[Job]]:
    """Rows of jobs to be trained, a fold with a seed each; nothing of a fold that is whole.

    A fold is whole once all of its arms forked from one base, with the settings of today. One that
    was interrupted goes on where its base still is, for the code and configuration of today. Else
    it is trained anew, result by result, as another base, of another machine or revision, would be
    compared with its own.

    Parameters
    ----------
    listed : sequence of Job
        With all arms of a fold.
    bases : Path
        Where the bases are.
    """
    rows = []
    for _, block in groupby(listed, key=lambda job: job.block):
        arms = list(block)
        forked = {job: _forked_today(job) for job in arms}
        if None in forked.values() or len(set(forked.values())) > 1:
            base = find_base(arms[0], bases)
            rows.append([job for job in arms if base is None or forked[job] != base.name])
    return rows


def find_base(job: Job, bases: Path) -> Path | None:
    """The base that a job would go on from; None where it is still to be trained."""
    return next(iter(sorted(bases.glob(f"{job.base()}-*"))), None)


def forked_from(job: Job) -> str | None:
    """Name of the base that a done job went on from; None for one without a result."""
    return json.loads(job.result.read_text())["base"] if job.result.exists() else None


def _forked_today(job: Job) -> str | None:
    """As :func:`forked_from`; None, too, for a result of other settings than today's."""
    if not job.result.exists():
        return None
    found = json.loads(job.result.read_text())
    today = job.config().model_dump(mode="json")
    return None if differing(found["config"], today) else found["base"]


def code() -> str:
    """Digest of the code that trains and counts."""
    return code_digest(
        "fold.py", "blob_loss.py", "study/jobs.py", "study/train.py", "study/shifted.py"
    )
