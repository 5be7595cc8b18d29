"""``train.init``: the bundle that a training begins from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.config import Config
from segpipe.data.splits import Fold
from segpipe.errors import ConfigError, ModelError
from segpipe.model.bundle import Bundle, load_bundle, slice_axis
from segpipe.pipeline.models import bundle_folder
from segpipe.prepare import PreparedCase, PreparePlan


@dataclass(frozen=True)
class Start:
    """The bundle that training begins from; whether what is held out now chose its weights."""

    folder: Path
    bundle: Bundle
    selected_here: bool


def start_folder(config: Config, recorded: Mapping[str, Any] | None) -> Path | None:
    """The folder of ``train.init``, one for all folds of a run and for each time it goes on.

    Parameters
    ----------
    config : Config
    recorded : mapping or None
        What :func:`start_record` gave when the run began: an alias may stand for another bundle
        by now.

    Returns
    -------
    Path or None
        None: training begins from fresh weights.

    Raises
    ------
    ConfigError
        If the bundle that the run began from is gone.
    ModelError
        If a new run names none.
    """
    if config.train.init is None:
        return None
    if recorded is None:
        return bundle_folder(config.train.init, config.output)
    weights = recorded["weights_sha256"]
    for name in (recorded["bundle"], config.train.init):  # a moved one may be known by its name
        try:
            folder = bundle_folder(name, config.output)
            if load_bundle(folder).weights_sha256 == weights:
                return folder
        except ModelError:
            continue
    raise ConfigError(
        f"train.init: expected the bundle that this run began from, {recorded['bundle']} with "
        f"weights {weights[:12]}; it is no longer there. Put it back, or begin a new run."
    )


def start_record(folder: Path | None) -> dict[str, str] | None:
    """What a run remembers of the bundle that it began from."""
    if folder is None:
        return None
    return {
        "bundle": str(folder.absolute()),
        "weights_sha256": load_bundle(folder).weights_sha256,
    }


def _network(config: Config, plan: PreparePlan) -> dict[str, Any]:
    """What makes the network, by dotted name."""
    settings = {f"model.{name}": value for name, value in config.model.model_dump().items()}
    return settings | {"model.slice_axis": slice_axis(config, plan)}


def find_start(
    folder: Path,
    config: Config,
    plan: PreparePlan,
    fold: Fold,
    dataset: str,
    held_out: Sequence[PreparedCase],
) -> Start:
    """The bundle in a folder, if a fold may begin from it.

    Raises
    ------
    ConfigError
        If its channels, labels or network are others, or it, or one that it began from, was trained
        on cases that are held out now: they would leak.
    """
    bundle = load_bundle(folder)
    for what, expected, received in (
        ("channels", plan.channels, bundle.plan.channels),
        ("labels", plan.labels, bundle.plan.labels),
    ):
        if list(expected) != list(received):
            raise ConfigError(
                f"train.init: expected a bundle with the {what} of this training, in order: "
                f"{', '.join(expected)}; received one with {', '.join(received)}. Start from "
                "another bundle, or without one."
            )
    networks = [_network(config, plan), _network(bundle.config, bundle.plan)]
    differing = [name for name in networks[0] if networks[0][name] != networks[1][name]]
    if differing:
        wanted, found = (", ".join(f"{n}={one[n]}" for n in differing) for one in networks)
        raise ConfigError(
            f"train.init: expected a bundle of the network of this training, {wanted}; received "
            f"one with {found}. Set the same, or start from another bundle."
        )
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
    return Start(folder, bundle, _selected_here(bundle, dataset, held_out))


def _selected_here(bundle: Bundle, dataset: str, held_out: Sequence[PreparedCase]) -> bool:
    """Whether a case that is held out now chose the weights; unknown counts as yes."""
    facts = bundle.dataset
    if any(one.chose for one in facts.trainings):
        return any(facts.chosen_by(case.mark) for case in held_out)
    return bundle.selected and facts.digest == dataset
