"""The bundle of a trained fold, and what its validation adds to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import segpipe
from segpipe.config import Config, OperatingPoint, digest
from segpipe.model.bundle import Bundle, load_bundle, save_bundle, save_weights
from segpipe.model.facts import DatasetFacts, FittingFacts
from segpipe.model.priors import save_priors
from segpipe.pipeline.card import write_card
from segpipe.pipeline.evaluation import Evaluation
from segpipe.pipeline.experiment import Experiment
from segpipe.pipeline.fold_cases import FoldCases
from segpipe.pipeline.provenance import now, source
from segpipe.pipeline.start import Start
from segpipe.prepare import PreparedCase
from segpipe.prepare.profile import ProfileRange

if TYPE_CHECKING:
    import keras


def save_trained(
    experiment: Experiment,
    cases: FoldCases,
    network: keras.Model,
    fitting: FittingFacts,
    folder: Path,
    start: Start | None,
) -> Bundle:
    """Write weights and description of a network that a fold has trained, and its card."""
    config, data = experiment.config, experiment.dataset_digest
    plan, training = cases.plan, cases.training
    code = source()
    spacing = np.array([_own_spacing(case) for case in training])
    bundle = Bundle(
        name=f"{config.name}-fold{cases.fold.index}",
        segpipe=segpipe.__version__,
        created=now(),
        source_revision=code.revision,
        dirty=code.dirty,
        config=config,
        config_digest=digest(config),
        plan=plan,
        operating_point=OperatingPoint(**config.predict.operating_point.model_dump()),
        dataset=DatasetFacts(
            name=experiment.dataset.name,
            digest=data,
            training_cases=len(training),
            validation_cases=len(cases.fold.validation),
            fold=cases.fold.index,
            marks=_marks(data, training),
            chose=_marks(data, cases.validated if config.train.chooses_weights else ()),
            earlier=() if start is None else start.bundle.dataset.trainings,
        ),
        spacing_range_mm=(tuple(spacing.min(axis=0)), tuple(spacing.max(axis=0))),
        intensity_range=tuple(
            ProfileRange.of([case.profile[c] for case in training])
            for c in range(len(plan.channels))
        ),
        fitting=fitting,
        precision=experiment.device.precision,
        weights_sha256=save_weights(folder / "bundle", network),
        priors_sha256=save_priors(folder / "bundle", cases.priors),
    )
    save_bundle(folder / "bundle", bundle)
    write_card(folder / "bundle")
    return bundle


def _marks(digest_of_data: str, cases: Iterable[PreparedCase]) -> tuple[str, ...]:
    return tuple(sorted(DatasetFacts.mark(digest_of_data, case.mark) for case in cases))


def _own_spacing(case: PreparedCase) -> tuple[float, ...]:
    """Spacing of the stored scan along R, A, S."""
    return tuple(case.transform.source_spacing_mm)


def store_validation(folder: Path, evaluation: Evaluation, config: Config) -> None:
    """Put operating point, its choice and validation figures into a bundle, and write its card."""
    bundle = load_bundle(folder)
    facts = evaluation.validation_facts(config)
    point = evaluation.choice.operating_point
    predict = config.predict
    chosen = {
        "operating_point": point,
        "mirror_axes": predict.mirror_axes,
        "overlap": predict.overlap,
    }
    save_bundle(folder, bundle.model_copy(update={**chosen, "validation": facts}))
    write_card(folder)
