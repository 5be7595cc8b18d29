"""What an evaluation runs on: cases, the bundles meant for them, and whether they may meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.config import Config, PredictConfig
from segpipe.data.layouts import Case, Dataset
from segpipe.data.splits import make_folds
from segpipe.errors import ConfigError, DataError, ModelError
from segpipe.model.bundle import Bundle
from segpipe.observer import Observer
from segpipe.pipeline.models import Loaded, load_models
from segpipe.pipeline.prepare import chosen_fold
from segpipe.pipeline.runs import RunFolder, finished_bundle, finished_run


@dataclass(frozen=True)
class Part:
    """Cases that one set of bundles is evaluated on."""

    name: str
    bundles: tuple[str, ...]
    cases: tuple[Case, ...]
    choose: bool
    fold: int | None = None


def find_parts(
    config: Config,
    dataset: Dataset,
    bundles: Sequence[str],
    fold: int | None,
    split: str,
    run: RunFolder | None = None,
) -> list[Part]:
    """The cases to evaluate on, each with the bundles that are meant for them.

    Parameters
    ----------
    config : Config
    dataset : Dataset
    bundles : sequence of str
        None given: those that were trained on the fold, in ``run`` or else in the newest one; of
        several folds, in the newest one that has all of them.
    fold : int or None
        None: all of them.
    split : {'validation', 'test'}
    run : RunFolder, optional

    Raises
    ------
    DataError
        If there is no such case.
    ModelError
        If a fold is not trained, or the folds are only to be had from runs of other settings.
    """

    if split == "test":
        cases = tuple(case for case in dataset.test_cases if case.reference is not None)
        if not cases:
            raise DataError(
                dataset.root,
                "no test case with a reference",
                expected="labelsTs, or the layout's own test references",
                fix="Add them, or evaluate --split validation.",
            )
        count = len(make_folds(dataset.cases, config.split))
        trained = range(count) if fold is None else [fold]
        chosen = tuple(bundles) or tuple(_trained(config, trained, run).values())
        return [Part("test cases", chosen, cases, choose=False)]
    folds = (
        make_folds(dataset.cases, config.split)
        if fold is None
        else [chosen_fold(dataset, config, fold)]
    )
    folds = [one for one in folds if one.validation]
    if not folds:
        raise DataError(
            dataset.root,
            "no validation case",
            expected="split.folds of at least 2",
            fix="Train with more folds, or evaluate --split test.",
        )
    own = {} if bundles else _trained(config, [one.index for one in folds], run)
    parts = []
    for one in folds:
        held_out = set(one.validation)
        cases = tuple(case for case in dataset.cases if case.id in held_out)
        chosen = tuple(bundles) or (own[one.index],)
        parts.append(Part(f"fold {one.index}", chosen, cases, choose=True, fold=one.index))
    return parts


def _trained(config: Config, folds: Sequence[int], run: RunFolder | None) -> dict[int, str]:
    """Bundles of folds, in ``run`` or else in the newest one that has them."""
    if run is None and len(folds) > 1:
        run = finished_run(config, folds)
    return {
        fold: str(finished_bundle(config, fold) if run is None else run.bundle(fold))
        for fold in folds
    }


@dataclass(frozen=True)
class Task:
    """What is the same for every part."""

    dataset: Dataset
    digest: str
    config: Config
    folder: Path
    observer: Observer

    def load(self, part: Part) -> Loaded:
        """The models of a part, if they fit it."""
        self.observer.message(f"{part.name}: {len(part.cases)} cases")
        config = self.config
        loaded = load_models(
            part.bundles, config.output, engine=config.predict.engine, config=config
        )
        for model in loaded.models:
            _fits(model.bundle, part, self.dataset, self.digest, config)
        if not part.choose:
            _expect_its_prediction(loaded.bundle, config.predict)
            seen = [case.id for case in part.cases if loaded.trained_on(case)]
            if seen:
                self.observer.message(
                    f"warning: {loaded.bundle.name}, or the weights that it began from, was "
                    "trained on these test cases, so that their figures are too good: "
                    f"{', '.join(seen)}"
                )
        return loaded

    def part_folder(self, part: Part) -> Path:
        """Where what belongs to a part is written."""
        return self.folder / part.name.replace(" ", "-")


def _expect_its_prediction(bundle: Bundle, predict: PredictConfig) -> None:
    """Refuse to score an operating point on other predictions than it was chosen on."""
    for name, chosen_with, wanted in (
        ("overlap", bundle.overlapped, predict.overlap),
        ("mirror_axes", sorted(bundle.mirrored), sorted(predict.mirror_axes)),
    ):
        if chosen_with != wanted:
            raise ConfigError(
                f"predict.{name}: expected {chosen_with}, with which the operating point of "
                f"{bundle.name} was chosen; received {wanted}. Say so, or evaluate --split "
                "validation first, which chooses anew."
            )


def _fits(bundle: Bundle, part: Part, dataset: Dataset, digest: str, config: Config) -> None:
    """Refuse a bundle of another task, or validation on what it was trained on."""
    plan = bundle.plan
    if list(plan.labels.items()) != list(dataset.labels.items()):
        raise ModelError(
            f"{bundle.name}: expected labels {dict(dataset.labels)}, in this order; received "
            f"{dict(plan.labels)}. Evaluate with a bundle of this dataset's task."
        )
    if plan.channels != tuple(dataset.channels):
        raise ModelError(
            f"{bundle.name}: expected channels {dataset.channels}; received {plan.channels}. "
            "Evaluate with a bundle of this dataset's task."
        )
    if not part.choose:
        return
    trained = bundle.config
    held_out = (
        bundle.dataset.fold == part.fold
        and trained.split == config.split
        and trained.data.patient_pattern == config.data.patient_pattern
        and bundle.dataset.digest == digest
    )
    if not held_out:
        raise ModelError(
            f"{bundle.name}: expected a bundle that held out {part.name} of this dataset and "
            f"split; received one of fold {bundle.dataset.fold} that may have trained on these "
            "cases. Evaluate --split test, or the fold that it held out. For what the networks of "
            "an ensemble of folds do on cases that they held out: --fold all, without --bundle."
        )
