"""One fold from scans to a validated bundle with its report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.augment import build
from segpipe.config import Config
from segpipe.data.splits import Fold
from segpipe.errors import SegpipeError
from segpipe.files import write_text
from segpipe.model.bundle import (
    Bundle,
    assign_arrays,
    build_network,
    load_network,
    network_arrays,
    network_spacing,
    slice_axis,
)
from segpipe.model.facts import FittingFacts
from segpipe.model.levels import plan_levels
from segpipe.observer import Observer
from segpipe.pipeline.cohort import publish_evaluation
from segpipe.pipeline.evaluation import Evaluation
from segpipe.pipeline.experiment import Experiment
from segpipe.pipeline.fold_cases import FoldCases, expect_same_training, fold_cases
from segpipe.pipeline.models import Loaded, inference_network
from segpipe.pipeline.scoring import evaluate_cases
from segpipe.pipeline.start import Start, find_start
from segpipe.pipeline.trained import save_trained, store_validation
from segpipe.predict.case import Model
from segpipe.predict.engines import make_engine
from segpipe.prepare import PreparedCase, PreparePlan

if TYPE_CHECKING:
    import keras

    from segpipe.batches import PatchSampler
    from segpipe.train.validation import Validation


def train_fold(
    experiment: Experiment, fold: Fold, folder: Path, observer: Observer, *, resume: bool
) -> tuple[Evaluation | None, dict[str, SegpipeError], FittingFacts]:
    """Train a fold and write its bundle, scores and report.

    Returns
    -------
    evaluation : Evaluation or None
        On the validation cases; None where the fold has none.
    failed : dict of str to SegpipeError
        Cases that could not be used.
    fitting : FittingFacts

    Raises
    ------
    SegpipeError
        If there is nothing to train on, the training diverges, or one that is resumed would go on
        with other scans, masks or region masks than those of its checkpoints.
    """
    config = experiment.config
    cases = fold_cases(experiment.dataset, fold, config, observer)
    expect_same_training(cases.training, folder, resume=resume)
    write_text(folder / "split.json", json.dumps({"train": fold.train, "val": fold.validation}))
    start = None
    if experiment.start is not None:
        digest = experiment.dataset_digest
        start = find_start(experiment.start, config, cases.plan, fold, digest, cases.held_out)
    network, fitting = _fit(experiment, cases, start, folder, observer, resume=resume)
    bundle = save_trained(experiment, cases, network, fitting, folder, start)
    observer.message(f"bundle in {folder / 'bundle'}")
    evaluation, failed = None, cases.failed
    if cases.validation:
        evaluation = _evaluate(experiment, cases, network, bundle, folder, observer)
        failed = failed | evaluation.failed
    observer.artifact(folder / "bundle")
    observer.artifact(folder / "split.json")
    return evaluation, failed, fitting


def patch_sampler(
    training: Sequence[PreparedCase], config: Config, plan: PreparePlan
) -> PatchSampler:
    """Augmented patches of prepared cases, as a configuration draws them for training."""
    from segpipe.batches import PatchSampler, keep_in_memory

    across = slice_axis(config, plan)
    return PatchSampler(
        keep_in_memory(training, config.train.memory_mb),
        config,
        build(config.augment, config.train.patch, plan.spacing_mm, across),
        plan.spacing_mm,
        across,
    )


def seeded_network(config: Config, plan: PreparePlan) -> keras.Model:
    """The network with the first weights that ``train.seed`` gives it."""
    import keras

    keras.utils.set_random_seed(config.train.seed)
    return build_network(config, plan)


def validation_of(
    held_out: Sequence[PreparedCase], config: Config, plan: PreparePlan, observer: Observer
) -> Validation:
    """What scores a network on held-out cases while it trains, and pictures some of them."""
    from segpipe.train.validation import Validation

    return Validation(
        held_out,
        config,
        len(plan.labels),
        slice_axis(config, plan),
        lambda net: make_engine("keras", inference_network(net), config.predict.batch),
        observer.image,
    )


def _fit(
    experiment: Experiment,
    cases: FoldCases,
    start: Start | None,
    folder: Path,
    observer: Observer,
    *,
    resume: bool,
) -> tuple[keras.Model, FittingFacts]:
    from segpipe.train.fit import fit

    config, plan = experiment.config, cases.plan
    _tell_idle_levels(config, plan, observer)
    sampler = patch_sampler(cases.training, config, plan)
    network = seeded_network(config, plan)
    if start is not None:
        arrays = network_arrays(load_network(start.folder, start.bundle))
        assign_arrays(network, arrays, f"train.init={start.folder}")
    observer.params({"network.parameters": network.count_params()})
    held_out = cases.validated
    progress = fit(
        network,
        sampler,
        config=config,
        classes=len(plan.labels),
        device=experiment.device,
        folder=folder,
        validate=validation_of(held_out, config, plan, observer) if held_out else None,
        observer=observer,
        resume=resume,
    )
    began_selected = True if start is not None and start.selected_here else None
    facts = FittingFacts(
        steps=progress.steps, planned=progress.planned, began_selected=began_selected
    )
    if progress.seconds is None:
        return network, facts
    clocked = {"seconds": round(progress.seconds, 1), "shortened": progress.shortened}
    return network, facts.model_copy(update=clocked)


def _tell_idle_levels(config: Config, plan: PreparePlan, observer: Observer) -> None:
    """Say so where a level of the network halves nothing, so that it costs and sees no further."""
    levels = plan_levels(config.model, config.train.patch, network_spacing(config, plan))
    idle = [str(i) for i, level in enumerate(levels) if i and max(level.stride) == 1]
    if idle and config.model.strides is None:
        patch = " × ".join(map(str, config.train.patch))
        observer.message(
            f"warning: level {', '.join(idle)} of the network halves nothing: train.patch {patch} "
            f"cannot be halved {len(levels) - 1} times with 4 voxels left: choose multiples of "
            f"{2 ** (len(levels) - 1)}, or fewer model.features"
        )


def _evaluate(
    experiment: Experiment,
    cases: FoldCases,
    network: keras.Model,
    bundle: Bundle,
    folder: Path,
    observer: Observer,
) -> Evaluation:
    """Score the bundle on what the fold holds out, and write figures and report into it."""
    config, device = experiment.config, experiment.device
    predict = config.predict
    engine = experiment.engine
    run = make_engine(engine, inference_network(network), predict.batch)
    model = Model(bundle, run, predict.overlap, predict.batch, predict.mirror_axes)
    saved = folder / "bundle"
    loaded = Loaded((saved,), (bundle,), (model,), device, engine, config, cases.priors)
    validation, dataset = cases.validation, experiment.dataset
    evaluation = evaluate_cases(
        validation, dataset, config, loaded, folder / "validation", observer, given=None
    )
    if evaluation.scored:
        store_validation(saved, evaluation, config)
    publish_evaluation(evaluation, validation, dataset, config, saved, observer)
    return evaluation
