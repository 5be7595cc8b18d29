"""Counts written as rows: plain dictionaries, None for what is undefined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from segpipe.config.rules import RULES
from segpipe.evaluate.counting import LabelCounts, union_box
from segpipe.lesions.places import NOWHERE
from segpipe.lesions.view import Counts, Side
from segpipe.metrics import detection, overlap, panoptic, surface

PENALTY_MM = 374.0
"""HD95 of a missed lesion and of a false-positive region under ``brats23``."""
_MANY_AT_ONCE = 5
"""Lesions found by one region, and more than half of those found, that a row is flagged for."""


ROW_FIGURES = (
    "dice",
    "sensitivity",
    "precision",
    "hd95_mm",
    "surface_dice",
    "reference_volume_ml",
    "prediction_volume_ml",
    "reference_lesions",
    "predicted_regions",
    "detected_lesions",
    "missed_lesions",
    "true_positive_regions",
    "false_positive_regions",
    "false_positive_volume_ml",
    "lesion_sensitivity",
    "lesion_precision",
    "lesion_f1",
)
"""What :func:`score_row` measures."""
DETAIL_FIGURES = (
    "iou",
    "assd_mm",
    "volume_error_ml",
    "absolute_volume_error_ml",
    "relative_volume_error",
    "panoptic_quality",
    "segmentation_quality",
    "recognition_quality",
    "lesionwise_dice",
    "lesionwise_hd95_mm",
    "missed_volume_ml",
    "ignored_lesions",
    "ignored_regions",
    "removed_regions",
    "removed_volume_ml",
    "lesions_lost",
    "most_lesions_by_one_region",
)
"""What :func:`detail_row` measures beside it."""


def score_row(
    case: str, label: str, flags: list[str], scored: LabelCounts, tolerance_mm: float
) -> dict[str, Any]:
    """The row that ``segpipe score --json`` promises, with exactly these fields."""
    counts, voxels = scored.counts, scored.voxels
    tally, voxel_ml = detection.tally_of(counts), counts.view.voxel_volume_mm3 / 1000
    return {
        "case": case,
        "label": label,
        "status": "scored",
        "flags": [*flags, *_lenient(counts)],
        "dice": defined(overlap.dice(voxels)),
        "sensitivity": defined(overlap.sensitivity(voxels)),
        "precision": defined(overlap.precision(voxels)),
        "hd95_mm": defined(surface.hausdorff95_mm(scored.surfaces)),
        "surface_dice": defined(surface.surface_dice(scored.surfaces, tolerance_mm)),
        "reference_volume_ml": voxels.reference * voxel_ml,
        "prediction_volume_ml": voxels.prediction * voxel_ml,
        "reference_lesions": tally.detected + tally.missed,
        "predicted_regions": tally.true_positives + tally.false_positives,
        "detected_lesions": tally.detected,
        "missed_lesions": tally.missed,
        "true_positive_regions": tally.true_positives,
        "false_positive_regions": tally.false_positives,
        "false_positive_volume_ml": counts.volume_ml(
            counts.view.prediction, counts.matching.false_positives
        ),
        "lesion_sensitivity": defined(detection.lesion_sensitivity(tally)),
        "lesion_precision": defined(detection.lesion_precision(tally)),
        "lesion_f1": defined(detection.f1_of(counts)),
    }


def _lenient(counts: Counts) -> list[str]:
    """A flag where one region found most of many lesions, however much else it covers."""
    most, found = counts.most_by_one, len(counts.matching.detected)
    if most < _MANY_AT_ONCE or 2 * most <= found:
        return []
    return [f"one predicted region found {most} of the {found} lesions found: see Dice as well"]


def defined(value: float) -> float | None:
    """The value, or None where it is nan."""
    return None if math.isnan(value) else float(value)


def detail_row(
    case: str, label: str, scored: LabelCounts, regions: Sequence[str] | None
) -> dict[str, Any]:
    """Further figures of the same case and label, beside the promised row.

    ``regions`` names the region maps that were given; None: none were. Its part of the row has a
    count for each region and for ``none``.
    """
    counts, voxels, found = scored.counts, scored.voxels, scored.counts.matching
    view, removed = counts.view, np.flatnonzero(~counts.kept) + 1
    lesions = np.flatnonzero(counts.counted) + 1
    return {
        "case": case,
        "label": label,
        "iou": defined(overlap.iou(voxels)),
        "assd_mm": defined(surface.average_symmetric_mm(scored.surfaces)),
        "volume_error_ml": overlap.volume_error_ml(voxels, view.voxel_volume_mm3),
        "absolute_volume_error_ml": overlap.absolute_volume_error_ml(voxels, view.voxel_volume_mm3),
        "relative_volume_error": defined(overlap.relative_volume_error(voxels)),
        **_panoptic(counts),
        **_lesionwise(scored),
        "missed_volume_ml": counts.volume_ml(view.reference, found.missed),
        "ignored_lesions": int((~counts.counted).sum()),
        "ignored_regions": len(found.ignored_predictions),
        "removed_regions": len(removed),
        "removed_volume_ml": counts.volume_ml(view.prediction, removed),
        "lesions_lost": counts.lesions_lost,
        "most_lesions_by_one_region": counts.most_by_one,
        "by_size": detection.by_size(
            view.lesion_mm3[counts.counted],
            np.isin(lesions, found.detected),
            view.component_mm3[found.false_positives - 1],
        ),
        "regions": None if regions is None else _by_region(counts, regions),
    }


def _panoptic(counts: Counts) -> dict[str, float | None]:
    """PQ, SQ and RQ of the lesions and components that count, at IoU ≥ 0.5 whatever the rule."""
    pairs = RULES["panoptic"]
    rule = replace(counts.limits.rule, kind=pairs.kind, minimum=pairs.minimum)
    matched = counts.view.count(replace(counts.limits, rule=rule))
    ious, lesions = matched.matched_ious, matched.counted.sum()
    ignored = np.setdiff1d(counts.matching.ignored_predictions, matched.matching.true_positives)
    regions = int(counts.kept.sum()) - len(ignored)
    return {
        "panoptic_quality": defined(panoptic.panoptic_quality(ious, lesions, regions)),
        "segmentation_quality": defined(panoptic.segmentation_quality(ious)),
        "recognition_quality": defined(panoptic.recognition_quality(len(ious), lesions, regions)),
    }


def _lesionwise(scored: LabelCounts) -> dict[str, float | None]:
    """Dice over lesions and false-positive regions; HD95 likewise where the rule publishes it."""
    counts = scored.counts
    wrong = len(counts.matching.false_positives)
    units = int(counts.counted.sum()) + wrong
    hd95 = None
    if counts.limits.rule.kind == "touch" and units:
        hd95 = (float(pooled_hd95_mm(scored).sum()) + PENALTY_MM * wrong) / units
    dice = detection.lesionwise_dice(counts.pooled_dice, wrong)
    return {"lesionwise_dice": defined(dice), "lesionwise_hd95_mm": hd95}


def pooled_hd95_mm(scored: LabelCounts) -> np.ndarray:
    """(K,) float: HD95 of every required lesion with all components that reach it.

    :data:`PENALTY_MM` for a lesion that nothing reaches.
    """
    counts, overlaps = scored.counts, scored.counts.view.overlaps
    links = overlaps.where(counts.kept[overlaps.prediction - 1])
    result = []
    for lesion in np.flatnonzero(counts.counted) + 1:
        pooled = links.prediction[links.reference == lesion]
        if len(pooled) == 0:
            result.append(PENALTY_MM)
            continue
        masks = scored.lesions.labels == lesion, np.isin(scored.prediction_labels, pooled)
        box = union_box(*masks)
        distances = surface.surface_distances(masks[0][box], masks[1][box], scored.affine)
        result.append(surface.hausdorff95_mm(distances))
    return np.array(result)


def _by_region(counts: Counts, regions: Sequence[str]) -> dict[str, dict]:
    view, found = counts.view, counts.matching
    result = {}
    for name in (*regions, NOWHERE):
        wrong = _inside(view.prediction, found.false_positives, name)
        hits = len(_inside(view.prediction, found.true_positives, name))
        detected = len(_inside(view.reference, found.detected, name))
        missed = _inside(view.reference, found.missed, name)
        result[name] = {
            "reference_lesions": detected + len(missed),
            "detected_lesions": detected,
            "missed_lesions": len(missed),
            "missed_volume_ml": counts.volume_ml(view.reference, missed),
            "predicted_regions": hits + len(wrong),
            "true_positive_regions": hits,
            "false_positive_regions": len(wrong),
            "false_positive_volume_ml": counts.volume_ml(view.prediction, wrong),
        }
    return result


def _inside(side: Side, components: np.ndarray, region: str) -> np.ndarray:
    places = np.array(side.region, dtype=object)
    return components[places[components - 1] == region]
