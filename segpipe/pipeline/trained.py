"""The bundle of a trained fold, and what its validation adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import segpipe
from segpipe.config import Config, OperatingPoint, digest
from segpipe.data.layouts import Dataset
from segpipe.data.splits import Fold
from segpipe.model.bundle import Bundle, load_bundle, save_bundle, save_weights
from segpipe.model.facts import DatasetFacts, FittingFacts
from segpipe.model.priors import save_priors
from segpipe.pipeline.card import write_card
from segpipe.pipeline.evaluation import Evaluation
from segpipe.pipeline.provenance import now, source
from segpipe.pipeline.start import Start
from segpipe.prepare import PreparedCase, PreparePlan
from segpipe.prepare.profile import ProfileRange
from segpipe.volume import Volume

if TYPE_CHECKING:
    import keras


def save_trained(
    config: Config,
    plan: PreparePlan,
    digest_of_data: str,
    dataset: Dataset,
    training: Sequence[PreparedCase],
    fold: Fold,
    network: keras.Model,
    fitting: FittingFacts,
    folder: Path,
    priors: Mapping[str, Volume],
    start: Start | None,
    precision: str,
) -> Bundle:
    """Write weights and description of a network that a fold has trained, and its card."""
    code = source()
    spacing = np.array([_own_spacing(case) for case in training])
    bundle = Bundle(
        name=f"{config.name}-fold{fold.index}",
        segpipe=segpipe.__version__,
        created=now(),
        source_revision=code.revision,
        dirty=code.dirty,
        config=config,
        config_digest=digest(config),
        plan=plan,
        operating_point=OperatingPoint(**config.predict.operating_point.model_dump()),
        dataset=DatasetFacts(
            name=dataset.name,
            digest=digest_of_data,
            training_cases=len(training),
            validation_cases=len(fold.validation),
            fold=fold.index,
            marks=tuple(sorted(DatasetFacts.mark(digest_of_data, c.mark) for c in training)),
            earlier=() if start is None else start.bundle.dataset.trainings,
        ),
        spacing_range_mm=(tuple(spacing.min(axis=0)), tuple(spacing.max(axis=0))),
        intensity_range=tuple(
            ProfileRange.of([case.profile[c] for case in training])
            for c in range(len(plan.channels))
        ),
        fitting=fitting,
        precision=precision,
        weights_sha256=save_weights(folder / "bundle", network),
        priors_sha256=save_priors(folder / "bundle", priors),
    )
    save_bundle(folder / "bundle", bundle)
    write_card(folder / "bundle")
    return bundle


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
