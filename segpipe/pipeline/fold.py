"""One fold from scans to a validated bundle with its report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.augment import build
from segpipe.backend import Device
from segpipe.config import Config
from segpipe.data.layouts import Dataset
from segpipe.data.splits import Fold
from segpipe.errors import DataError, SegpipeError
from segpipe.files import write_text
from segpipe.model.bundle import (
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
from segpipe.pipeline.models import Loaded, inference_network
from segpipe.pipeline.prepare import (
    Prepared,
    plan_for,
    prepare_cases,
    tell_failures,
    tell_regions,
)
from segpipe.pipeline.priors import fold_priors
from segpipe.pipeline.scoring import evaluate_cases
from segpipe.pipeline.start import find_start
from segpipe.pipeline.trained import save_trained, store_validation
from segpipe.predict.case import Model
from segpipe.predict.engines import choose_engine, make_engine
from segpipe.prepare import PreparedCase, PreparePlan

if TYPE_CHECKING:
    import keras

    from segpipe.batches import PatchSampler
    from segpipe.train.validation import Validation


def train_fold(
    config: Config,
    dataset: Dataset,
    digest_of_data: str,
    fold: Fold,
    device: Device,
    folder: Path,
    observer: Observer,
    *,
    resume: bool,
    begin_from: Path | None = None,
) -> tuple[Evaluation | None, dict[str, SegpipeError], FittingFacts]:
    """Train a fold and write its bundle, scores and report.

    ``begin_from`` is the bundle of ``train.init``.

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
    plan = plan_for(dataset, fold, config)
    wanted = {*fold.train, *fold.validation}
    cases = [case for case in dataset.cases if case.id in wanted]
    priors = fold_priors(dataset, fold, config, observer)
    prepared = prepare_cases(cases, dataset, plan, config, observer, priors)
    for case_id in fold.train:
        if case_id in prepared.cases and prepared.cases[case_id].reference is None:
            del prepared.cases[case_id]
            prepared.failed[case_id] = DataError(
                case_id, "no reference", fix="Add the expert's mask, or leave the case out."
            )
    tell_failures(prepared.failed, observer)
    tell_regions(prepared, observer)
    _tell_copies(prepared, fold, observer)
    training = _usable(prepared, fold.train)
    if not training:
        raise DataError(dataset.root, "no training case could be prepared", fix="See above.")
    _tell_labels_never_held(training, plan, fold, observer)
    _expect_same_training(training, folder, resume=resume)
    write_text(folder / "split.json", json.dumps({"train": fold.train, "val": fold.validation}))
    start = None
    if begin_from is not None:
        held_out = _usable(prepared, fold.validation)
        start = find_start(begin_from, config, plan, fold, digest_of_data, held_out)
    network, fitting = _train(
        config, plan, training, prepared, fold, device, folder, observer, resume, start
    )
    bundle = save_trained(
        *(config, plan, digest_of_data, dataset, training, fold),
        *(network, fitting, folder, priors, start, device.precision),
    )
    observer.message(f"bundle in {folder / 'bundle'}")
    failed = dict(prepared.failed)
    evaluation = None
    validation = [case for case in cases if case.id in set(fold.validation)]
    if validation:
        chosen = choose_engine(config.predict.engine, device.kind, device.backend)
        run = make_engine(chosen, inference_network(network), config.predict.batch)
        settings = config.predict
        model = Model(bundle, run, settings.overlap, settings.batch, settings.mirror_axes)
        loaded = Loaded((folder / "bundle",), (bundle,), (model,), device, chosen, config, priors)
        evaluation = evaluate_cases(
            validation, dataset, config, loaded, folder / "validation", observer, given=None
        )
        failed |= evaluation.failed
        if evaluation.scored:
            store_validation(folder / "bundle", evaluation, config)
        publish_evaluation(evaluation, validation, dataset, config, folder / "bundle", observer)
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


def _tell_copies(prepared: Prepared, fold: Fold, observer: Observer) -> None:
    """Say which held-out scans are trained on as well, under another case id."""
    trained = {case.mark: case.id for case in _usable(prepared, fold.train)}
    copies = [
        f"{case.id} ({trained[case.mark]})"
        for case in _usable(prepared, fold.validation)
        if case.mark in trained
    ]
    if copies:
        observer.message(
            f"warning: fold {fold.index} holds out scans that it trains on under another id, so "
            f"that validation is too good: {', '.join(copies)}. segpipe check lists such findings"
        )


def _tell_labels_never_held(
    training: Sequence[PreparedCase], plan: PreparePlan, fold: Fold, observer: Observer
) -> None:
    """Say so where the references hold nothing of a label: an export that failed, perhaps."""
    held = {value for case in training for value, voxels in case.foreground.items() if len(voxels)}
    for index, label in enumerate(plan.labels, start=1):
        if index not in held:
            observer.message(
                f"warning: no training case of fold {fold.index} has a voxel of {label}, which "
                "cannot be learnt so: check how the masks were exported"
            )


def _expect_same_training(training: Sequence[PreparedCase], folder: Path, *, resume: bool) -> None:
    """Keep what is trained on; refuse to go on from checkpoints with anything else."""
    path = folder / "prepared.json"
    entries = {case.id: [case.folder.name, case.regions_folder.name] for case in training}
    if resume and path.exists() and any((folder / "checkpoints").glob("*")):
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(k for k in {**before, **entries} if before.get(k) != entries.get(k))
        if changed:
            raise DataError(
                folder,
                "goes on only with the cases and region masks that it began with",
                expected=f"{len(before)} prepared cases",
                received=f"others for {', '.join(changed[:5])}{' …' if len(changed) > 5 else ''}",
                fix="Restore the files, or begin a new run.",
            )
    write_text(path, json.dumps(entries, indent=1))


def _usable(prepared: Prepared, ids: tuple[str, ...]) -> list[PreparedCase]:
    return [prepared.cases[i] for i in ids if i in prepared.cases]


def _train(config, plan, training, prepared, fold, device, folder, observer, resume, start):
    from segpipe.train.fit import fit

    _tell_idle_levels(config, plan, observer)
    sampler = patch_sampler(training, config, plan)
    network = seeded_network(config, plan)
    if start is not None:
        arrays = network_arrays(load_network(start.folder, start.bundle))
        assign_arrays(network, arrays, f"train.init={start.folder}")
    observer.params({"network.parameters": network.count_params()})
    validation = [c for c in _usable(prepared, fold.validation) if c.reference is not None]
    progress = fit(
        network,
        sampler,
        config=config,
        classes=len(plan.labels),
        device=device,
        folder=folder,
        validate=validation_of(validation, config, plan, observer) if validation else None,
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
