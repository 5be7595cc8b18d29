"""Validation while training: whole prepared volumes, counted lesion by lesion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.config import Config
from segpipe.lesions.classes import class_map
from segpipe.lesions.components import label_components
from segpipe.lesions.limits import Limits
from segpipe.lesions.reference import find_lesions
from segpipe.lesions.view import make_view
from segpipe.metrics.detection import f1_of, lesion_sensitivity, tally_of
from segpipe.metrics.overlap import count_voxels, dice
from segpipe.predict.engines import Engine
from segpipe.predict.window import predict_volume
from segpipe.prepare import IGNORE, PreparedCase

NAMES = ("dice", "lesion_sensitivity", "lesion_f1", "false_positive_regions")


def make_validate(
    cases: Sequence[PreparedCase],
    config: Config,
    classes: int,
    slice_axis: int | None,
    make_engine: Callable[[Any], Engine],
) -> Callable[[Any], Mapping[str, float]]:
    """A function from a network to its mean figures on prepared cases.

    The figures guide training: they are taken on the prepared grid, at the configured operating
    point. What is reported is measured afterwards on each scan's own grid.

    Parameters
    ----------
    cases : sequence of PreparedCase
        With references.
    config : Config
    classes : int
        Foreground classes.
    slice_axis : int or None
        2-D networks: the axis across the slices.
    make_engine : callable
        Network to engine; called once for a network that is validated again and again.

    Returns
    -------
    callable
        To ``dice``, ``lesion_sensitivity``, ``lesion_f1`` (means over cases and classes where
        defined, else nan) and ``false_positive_regions`` (mean per case).
    """
    known: list[tuple[Any, Engine]] = []

    def validate(network: Any) -> dict[str, float]:
        if not known or known[0][0] is not network:
            known[:] = [(network, make_engine(network))]
        engine = known[0][1]
        rows = []
        for case in cases:
            image = (np.asarray(case.image) - case.shift) / case.scale
            probabilities = predict_volume(
                image,
                engine,
                patch=config.train.patch,
                overlap=config.predict.overlap,
                batch=config.predict.batch,
                slice_axis=slice_axis,
            )
            rows.append(_figures(case, probabilities, config, classes))
        columns = np.array(rows).reshape(-1, len(NAMES))
        means = [_mean(column) for column in columns.T]
        means[-1] *= classes  # per case, not per case and class
        return dict(zip(NAMES, means, strict=True))

    return validate


def _figures(case: PreparedCase, probabilities, config, classes) -> list[list[float]]:
    point = config.predict.operating_point
    limits = Limits.of(config.evaluate, point)
    reference = np.asarray(case.reference)
    found = np.where(reference == IGNORE, 0, class_map(probabilities, point.threshold))
    rows = []
    for k in range(1, classes + 1):
        lesions = find_lesions(reference == k, limits)
        labels = label_components(found == k, limits.connectivity)[0]
        view = make_view(
            case.id,
            str(k),
            lesions.labels,
            labels,
            float(np.prod(case.spacing_mm)),
            reach=lesions.reach,
            probability=probabilities[..., k - 1],
        )
        counts = view.count(limits)
        remaining = np.r_[False, view.present(limits)][labels]
        overlap = dice(count_voxels(reference == k, remaining))
        tally = tally_of(counts)
        rows.append([overlap, lesion_sensitivity(tally), f1_of(counts), tally.false_positives])
    return rows


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
