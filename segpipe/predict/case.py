"""Probabilities of one scan on its own grid, from one or several trained models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.config import digest
from segpipe.data.nifti import MAX_VOXELS
from segpipe.geometry import inverse
from segpipe.model.bundle import Bundle
from segpipe.predict.engines import Engine
from segpipe.predict.mirroring import Mirroring, mirrorings
from segpipe.predict.uncertainty import Spread
from segpipe.predict.window import normalising, predict_volume
from segpipe.prepare import PreparedImage, prepare_volume
from segpipe.volume import Volume


@dataclass(frozen=True)
class Model:
    """A bundle, ready to compute.

    Parameters
    ----------
    bundle : Bundle
    engine : Engine
    overlap : float
    batch : int
    mirror_axes : sequence of {'R', 'A', 'S'}
        Axes of test-time mirroring.
    """

    bundle: Bundle
    engine: Engine
    overlap: float
    batch: int
    mirror_axes: Sequence[str] = ()

    @property
    def members(self) -> list[Mirroring]:
        """The mirrorings under which it predicts."""
        return mirrorings(self.mirror_axes, self.bundle.slice_axis)


def member_probabilities(
    image: Volume,
    models: Sequence[Model],
    prepared: PreparedImage | None = None,
    *,
    max_voxels: int = MAX_VOXELS,
) -> Iterator[np.ndarray]:
    """What each member of the ensemble makes of a scan, one after the other.

    A member is a model under one mirroring.

    Parameters
    ----------
    image : Volume
        (X, Y, Z, C) float32, channels as the bundles' plans name them.
    models : sequence of Model
    prepared : PreparedImage, optional
        The scan as the plan of the first model prepares it, where that was done before.
    max_voxels : int
        As in :func:`~segpipe.prepare.image.prepare_volume`.

    Yields
    ------
    (X, Y, Z, K) float32 ndarray
        Probability of each label on the scan's own grid, in [0, 1].
    """
    plan_digest = "" if prepared is None else digest(models[0].bundle.plan)
    for model in models:
        plan = model.bundle.plan
        if prepared is None or digest(plan) != plan_digest:
            prepared = prepare_volume(image, plan, max_voxels=max_voxels)
            plan_digest = digest(plan)
        engine = normalising(model.engine, prepared.shift, prepared.scale)
        for mirroring in model.members:
            probabilities = predict_volume(
                prepared.array,
                engine,
                patch=model.bundle.config.train.patch,
                overlap=model.overlap,
                batch=model.batch,
                slice_axis=model.bundle.slice_axis,
                mirroring=mirroring,
            )
            own_grid = inverse(probabilities, prepared.transform, order=1)
            yield np.clip(own_grid, 0.0, 1.0, out=own_grid)


def predict_scan(
    image: Volume,
    models: Sequence[Model],
    spread: Spread | None = None,
    prepared: PreparedImage | None = None,
    *,
    max_voxels: int = MAX_VOXELS,
) -> Volume:
    """Probability of each label on the scan's own grid: the mean over the members.

    Probabilities are averaged, not logits: the mean is then the predictive distribution of the
    members taken together, and what they disagree about can be told from it exactly
    (Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles, 2017. arXiv:1612.01474).

    Parameters
    ----------
    image : Volume
        (X, Y, Z, C) float32.
    models : sequence of Model
        At least one.
    spread : Spread, optional
        Is shown every member.
    prepared : PreparedImage, optional
    max_voxels : int
        As in :func:`member_probabilities`.

    Returns
    -------
    Volume
        (X, Y, Z, K) float32 in [0, 1].
    """
    total, count = None, 0
    for probabilities in member_probabilities(image, models, prepared, max_voxels=max_voxels):
        if spread is not None:
            spread.add(probabilities)
        total = probabilities if total is None else np.add(total, probabilities, out=total)
        count += 1
    assert total is not None
    total /= count
    return image.with_array(total)
