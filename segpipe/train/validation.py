"""Validation while training: whole prepared volumes, counted lesion by lesion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.config import Config
from segpipe.lesions.classes import class_map
from segpipe.lesions.components import component_voxels, label_components, large_enough
from segpipe.lesions.matching import find_overlaps, match_overlaps, parse_rule
from segpipe.metrics.detection import DetectionCounts, lesion_f1, lesion_sensitivity
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
    point, rule = config.predict.operating_point, parse_rule(config.evaluate.rule)
    reference = np.asarray(case.reference)
    found = np.where(reference == IGNORE, 0, class_map(probabilities, point.threshold))
    voxel_mm3 = float(np.prod(case.spacing_mm))
    rows = []
    smallest = config.evaluate.min_size_mm3
    for k in range(1, classes + 1):
        lesions, count = label_components(reference == k, config.evaluate.connectivity)
        labels, predicted = label_components(found == k, config.evaluate.connectivity)
        lesion_voxels = component_voxels(lesions, count)
        voxels = component_voxels(labels, predicted)
        present = large_enough(voxels, voxel_mm3, point.min_size_mm3)
        matching = match_overlaps(
            find_overlaps(lesions, labels),
            lesion_voxels,
            voxels,
            rule,
            reference_counted=large_enough(lesion_voxels, voxel_mm3, smallest),
            prediction_kept=present & large_enough(voxels, voxel_mm3, smallest),
        )
        counts = DetectionCounts(
            len(matching.detected),
            len(matching.missed),
            len(matching.true_positives),
            len(matching.false_positives),
        )
        overlap = dice(count_voxels(reference == k, np.r_[False, present][labels]))
        rows.append(
            [overlap, lesion_sensitivity(counts), lesion_f1(counts), counts.false_positives]
        )
    return rows


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
