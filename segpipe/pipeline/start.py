"""``train.init``: the bundle that a training begins from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.config import Config
from segpipe.data.splits import Fold
from segpipe.errors import ConfigError
from segpipe.model.bundle import Bundle, load_bundle
from segpipe.pipeline.models import bundle_folder
from segpipe.prepare import PreparedCase


@dataclass(frozen=True)
class Start:
    """The bundle that training begins from; whether what is held out now chose its weights."""

    folder: Path
    bundle: Bundle
    selected_here: bool


def find_start(config: Config, fold: Fold, dataset: str, held_out: Sequence[PreparedCase]) -> Start:
    """The bundle of ``train.init``.

    Raises
    ------
    ConfigError
        If it, or one that it began from, was trained on cases that are held out now: they would
        leak.
    """
    folder = bundle_folder(str(config.train.init), config.output)
    bundle = load_bundle(folder)
    facts = bundle.dataset
    seen = [case.id for case in held_out if facts.saw(case.mark)]
    same_split = facts.fold == fold.index and bundle.config.split == config.split
    if seen or (not facts.marks and facts.digest == dataset and not same_split):
        what = f"trained on {', '.join(seen)}" if seen else f"of fold {facts.fold} of this dataset"
        raise ConfigError(
            f"train.init: expected a bundle that never saw the cases held out now; received one "
            f"{what}: validation would be too good. Start from another bundle, or hold out what it "
            "held out."
        )
    selected_here = bundle.selected and same_split and facts.digest == dataset
    return Start(folder, bundle, selected_here)
