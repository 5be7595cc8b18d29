"""What study and ablation train on: one fold of a configuration, prepared whole."""

from __future__ import annotations

from segpipe.config import Config
from segpipe.data.layouts import open_dataset
from segpipe.observer import Silent
from segpipe.pipeline.fold_cases import FoldCases, fold_cases
from segpipe.pipeline.prepare import chosen_fold


def prepare_fold(config: Config, index: int) -> FoldCases:
    """Prepare a fold; a case that cannot be used ends the job with its error."""
    dataset = open_dataset(config.data)
    cases = fold_cases(dataset, chosen_fold(dataset, config, index), config, Silent())
    if cases.failed:
        raise next(iter(cases.failed.values()))
    return cases
