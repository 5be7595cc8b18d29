"""What study and ablation train on: one fold of a configuration, prepared whole."""

from __future__ import annotations

from dataclasses import dataclass

from segpipe.config import Config
from segpipe.data.layouts import Dataset, open_dataset
from segpipe.data.splits import Fold
from segpipe.observer import Silent
from segpipe.pipeline.prepare import chosen_fold, plan_for, prepare_cases
from segpipe.pipeline.priors import fold_priors
from segpipe.prepare import PreparedCase, PreparePlan


@dataclass(frozen=True)
class PreparedFold:
    """A fold and its cases by id, training and held out."""

    dataset: Dataset
    fold: Fold
    plan: PreparePlan
    cases: dict[str, PreparedCase]

    @property
    def training(self) -> list[PreparedCase]:
        return [self.cases[case] for case in self.fold.train]

    @property
    def held_out(self) -> list[PreparedCase]:
        return [self.cases[case] for case in self.fold.validation]


def prepare_fold(config: Config, index: int) -> PreparedFold:
    """Prepare a fold; a case that cannot be prepared ends the job with its error."""
    dataset = open_dataset(config.data)
    fold = chosen_fold(dataset, config, index)
    plan = plan_for(dataset, fold, config)
    priors = fold_priors(dataset, fold, config, Silent())
    prepared = prepare_cases(dataset.cases, dataset, plan, config, Silent(), priors)
    if prepared.failed:
        raise next(iter(prepared.failed.values()))
    return PreparedFold(dataset, fold, plan, prepared.cases)
