"""Validation while training: whole prepared volumes, counted lesion by lesion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.classes import IGNORE
from segpipe.config import Config
from segpipe.lesions.classes import class_map
from segpipe.lesions.components import component_voxels, label_components, large_enough
from segpipe.lesions.matching import Matching, find_overlaps, match_overlaps, parse_rule
from segpipe.lesions.places import component_regions
from segpipe.metrics.detection import DetectionCounts, lesion_f1, lesion_sensitivity
from segpipe.metrics.overlap import count_voxels, dice
from segpipe.predict.engines import Engine
from segpipe.predict.window import predict_volume
from segpipe.prepare import PreparedCase

SCORES = ("dice", "lesion_sensitivity", "lesion_f1")
COUNTS = ("false_positive_regions", "false_positive_voxels")

Figures = dict[str, float]


def make_validate(
    cases: Sequence[PreparedCase],
    config: Config,
    classes: int,
    slice_axis: int | None,
    make_engine: Callable[[Any], Engine],
) -> Callable[[Any], Figures]:
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
        To ``dice``, ``lesion_sensitivity``, ``lesion_f1``: means over cases and classes where
        defined, else nan. To ``false_positive_regions`` and ``false_positive_voxels``: means per
        case. To both of every anatomical region, as ``false_positive_regions/NAME``: means over
        the cases that have the region, else nan.
    """
    known: list[tuple[Any, Engine]] = []
    places = [region.name for region in config.anatomy.regions]

    def validate(network: Any) -> Figures:
        if not known or known[0][0] is not network:
            known[:] = [(network, make_engine(network))]
        scores: list[Figures] = []
        counts: list[Figures] = []
        for case in cases:
            image = (np.asarray(case.image) - case.shift) / case.scale
            probabilities = predict_volume(
                image,
                known[0][1],
                patch=config.train.patch,
                overlap=config.predict.overlap,
                batch=config.predict.batch,
                slice_axis=slice_axis,
            )
            of_classes, of_case = _figures(case, probabilities, config, classes)
            scores += of_classes
            counts.append(of_case)
        by_place = [f"{count}/{place}" for place in places for count in COUNTS]
        return _means(SCORES, scores) | _means([*COUNTS, *by_place], counts)

    return validate


def _figures(
    case: PreparedCase, probabilities: np.ndarray, config: Config, classes: int
) -> tuple[list[Figures], Figures]:
    """Scores of every class of a case, and what was found wrongly in all of them together."""
    reference = np.asarray(case.reference)
    threshold = config.predict.operating_point.threshold
    found = np.where(reference == IGNORE, 0, class_map(probabilities, threshold))
    maps = np.asarray(case.regions)
    regions = {name: maps[..., i] for i, name in enumerate(case.region_names)}
    scores: list[Figures] = []
    total: dict[str, float] = {}
    for k in range(1, classes + 1):
        truth = reference == k
        lesions, _ = label_components(truth, config.evaluate.connectivity)
        labels, predicted = label_components(found == k, config.evaluate.connectivity)
        present, matching = _match(lesions, labels, float(np.prod(case.spacing_mm)), config)
        mask = np.r_[False, present][labels]
        counts = DetectionCounts(
            len(matching.detected),
            len(matching.missed),
            len(matching.true_positives),
            len(matching.false_positives),
        )
        scores.append(
            {
                "dice": dice(count_voxels(truth, mask)),
                "lesion_sensitivity": lesion_sensitivity(counts),
                "lesion_f1": lesion_f1(counts),
            }
        )
        homes = component_regions(labels, predicted, regions)
        wrong = _wrong([homes[i - 1] for i in matching.false_positives], mask & ~truth, regions)
        total = {name: total.get(name, 0.0) + value for name, value in wrong.items()}
    return scores, total


def _wrong(homes: Sequence[str], voxels: np.ndarray, regions: Mapping[str, np.ndarray]) -> Figures:
    """Counts of all false-positive components and voxels, and of those in each region.

    Parameters
    ----------
    homes : sequence of str
        Region of every false-positive component.
    voxels : (X, Y, Z) bool ndarray
        Predicted, and not of this class.
    regions : mapping of str to (X, Y, Z) uint8 ndarray
        255 inside; a voxel of a soft border counts by its share.
    """
    figures = {
        "false_positive_regions": float(len(homes)),
        "false_positive_voxels": float(voxels.sum()),
    }
    for name, region in regions.items():
        figures[f"false_positive_regions/{name}"] = float(homes.count(name))
        figures[f"false_positive_voxels/{name}"] = float(region[voxels].sum(dtype=np.int64) / 255)
    return figures


def _match(
    lesions: np.ndarray, labels: np.ndarray, voxel_mm3: float, config: Config
) -> tuple[np.ndarray, Matching]:
    """Which predicted components are large enough to exist, and what they found."""
    lesion_voxels = component_voxels(lesions, int(lesions.max(initial=0)))
    voxels = component_voxels(labels, int(labels.max(initial=0)))
    smallest = config.evaluate.min_size_mm3
    present = large_enough(voxels, voxel_mm3, config.predict.operating_point.min_size_mm3)
    matching = match_overlaps(
        find_overlaps(lesions, labels),
        lesion_voxels,
        voxels,
        parse_rule(config.evaluate.rule),
        reference_counted=large_enough(lesion_voxels, voxel_mm3, smallest),
        prediction_kept=present & large_enough(voxels, voxel_mm3, smallest),
    )
    return present, matching


def _means(names: Iterable[str], rows: Sequence[Mapping[str, float]]) -> Figures:
    """Mean of each figure over the rows that have it defined; nan where none has."""
    means = {}
    for name in names:
        values = np.array([row.get(name, np.nan) for row in rows])
        defined = values[~np.isnan(values)]
        means[name] = float(defined.mean()) if len(defined) else float("nan")
    return means
