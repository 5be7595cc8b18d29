"""What is trained beside nnU-Net: datasets, folds, arms and budgets, as a list that can stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.jobs import thread_variables

RESULTS = Path(__file__).parent / "results"

THREADS = 2
"""Threads, and loading processes at most, of both sides."""

OUR_ENVIRONMENT = thread_variables(THREADS)
"""Variables of segpipe's commands."""

TELLING = {"prepare", "anatomy", "augment", "model", "loss"}
"""Sections of a configuration that the results of one table have in common."""

UNTOLD = {"model": {"block": "plain"}}
"""What is known of the configuration of results from before it was written."""

NNUNET = "nnunet"
NNUNET_SMALL = "nnunet-small"
SEGPIPE = "segpipe"
SEGPIPE_ITERATIONS = "segpipe-iterations"
CONFIGURATIONS = {NNUNET: "3d_fullres", NNUNET_SMALL: "3d_small"}
"""Arms of nnU-Net, and what their configurations are called in its plans."""


@dataclass(frozen=True)
class SmallPlan:
    """What a hand-made plan says of itself; the rest is as nnU-Net derives it.

    Parameters
    ----------
    patch : (3,) int
        In nnU-Net's order of axes, Z, Y, X.
    spacing_mm : (3,) float
        Likewise.
    batch : int
    """

    patch: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    batch: int


@dataclass(frozen=True)
class Comparison:
    """One dataset.

    Parameters
    ----------
    config : Path
        segpipe's configuration, split included.
    number : int
        nnU-Net's number of the dataset.
    folds : tuple of int
    minutes : float
        Training time of each side.
    arms : tuple of str
        In the order in which they run; an arm of as many iterations comes after its model.
    small : SmallPlan or None
        The hand-made plan.
    sweep : bool
        Whether thresholds and minimum sizes are swept, which takes probability maps.
    overrides : tuple of str
        Of segpipe's configuration.
    """

    config: Path
    number: int
    folds: tuple[int, ...]
    minutes: float
    arms: tuple[str, ...]
    small: SmallPlan | None = None
    sweep: bool = False
    overrides: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The arm of nnU-Net whose iterations and batch ``segpipe-iterations`` takes."""
        return NNUNET_SMALL if NNUNET_SMALL in self.arms else NNUNET


COMPARISONS = {
    "hippocampus": Comparison(
        config=Path("configs/hippocampus.yaml"),
        number=4,
        folds=(0, 1),
        minutes=30,
        arms=(NNUNET, SEGPIPE, SEGPIPE_ITERATIONS),
    ),
    "ms_lesions": Comparison(
        config=Path("configs/ms_lesions.yaml"),
        number=501,
        folds=tuple(range(6)),
        minutes=10,
        arms=(NNUNET_SMALL, SEGPIPE, NNUNET, SEGPIPE_ITERATIONS),
        small=SmallPlan(patch=(48, 64, 64), spacing_mm=(1.0, 1.0, 1.0), batch=2),
        sweep=True,
    ),
}


@dataclass(frozen=True)
class Job:
    """One training with its predictions: an arm of a fold."""

    dataset: str
    fold: int
    arm: str

    @property
    def comparison(self) -> Comparison:
        return COMPARISONS[self.dataset]

    def result(self, folder: Path = RESULTS) -> Path:
        """Where its figures are written; there once it is done."""
        return folder / self.dataset / f"fold{self.fold}-{self.arm}.json"

    @property
    def peer(self) -> bool:
        """Whether nnU-Net runs it."""
        return self.arm in CONFIGURATIONS

    @property
    def model(self) -> Job | None:
        """The job whose number of iterations it takes; None for one that takes minutes."""
        if self.arm != SEGPIPE_ITERATIONS:
            return None
        return Job(self.dataset, self.fold, self.comparison.model)

    def __str__(self) -> str:
        return f"{self.dataset}, fold {self.fold}, {self.arm}"


def all_jobs(datasets: tuple[str, ...] = tuple(COMPARISONS)) -> Iterator[Job]:
    """Every job, fold by fold, so that what is done compares the arms on the same cases."""
    for dataset in datasets:
        for fold in COMPARISONS[dataset].folds:
            for arm in COMPARISONS[dataset].arms:
                yield Job(dataset, fold, arm)
