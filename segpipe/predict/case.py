"""Probabilities of one scan on its own grid, from one or several trained models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.config import digest
from segpipe.errors import ModelError
from segpipe.geometry import inverse
from segpipe.model.bundle import Bundle
from segpipe.predict.engines import Engine
from segpipe.predict.window import predict_volume
from segpipe.prepare import prepare_volume
from segpipe.volume import Volume


@dataclass(frozen=True)
class Model:
    """A bundle, ready to compute."""

    bundle: Bundle
    engine: Engine
    overlap: float
    batch: int


def check_ensemble(bundles: Sequence[Bundle]) -> None:
    """Refuse models that do not answer the same question.

    Raises
    ------
    ModelError
        If their labels or channels differ.
    """
    first = bundles[0]
    for other in bundles[1:]:
        same_labels = list(other.plan.labels.items()) == list(first.plan.labels.items())
        if not same_labels or other.plan.channels != first.plan.channels:
            raise ModelError(
                f"bundles: expected one set of labels {dict(first.plan.labels)} and channels "
                f"{first.plan.channels}; received {dict(other.plan.labels)} and "
                f"{other.plan.channels} in {other.name}. Predict with bundles of one task."
            )


def predict_scan(image: Volume, models: Sequence[Model]) -> Volume:
    """Probability of each label, averaged over the models, on the scan's own grid.

    Parameters
    ----------
    image : Volume
        (X, Y, Z, C) float32, channels as the bundles' plans name them.
    models : sequence of Model
        At least one.

    Returns
    -------
    Volume
        (X, Y, Z, K) float32 in [0, 1].
    """
    total: np.ndarray | None = None
    prepared, plan_digest = None, ""
    for model in models:
        plan = model.bundle.plan
        if prepared is None or digest(plan) != plan_digest:
            prepared, plan_digest = prepare_volume(image, plan), digest(plan)
        probabilities = predict_volume(
            (prepared.array - prepared.shift) / prepared.scale,
            model.engine,
            patch=model.bundle.config.train.patch,
            overlap=model.overlap,
            batch=model.batch,
            slice_axis=model.bundle.slice_axis,
        )
        own_grid = inverse(probabilities, prepared.transform, order=1)
        total = own_grid if total is None else total + own_grid
    assert total is not None
    if len(models) > 1:
        total /= len(models)
    return image.with_array(np.clip(total, 0.0, 1.0, out=total))
