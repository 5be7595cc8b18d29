"""From an evaluation to its report, and both to whoever observes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset
from segpipe.observer import Observer
from segpipe.pipeline.evaluation import Evaluation


def publish_evaluation(
    evaluation: Evaluation,
    cases: Sequence[Case],
    dataset: Dataset,
    config: Config,
    bundle: Path,
    observer: Observer,
) -> None:
    """Write the reports of an evaluation and hand everything to the observer."""
    figures = evaluation.figures()
    observer.metrics(figures, step=0)
    for name in ("scores.json", "scores.csv", "components.parquet", "components.csv"):
        observer.artifact(evaluation.folder / name, "evaluation")
