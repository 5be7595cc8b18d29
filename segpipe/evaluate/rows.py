"""Counts written as rows: plain dictionaries, None for what is undefined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from segpipe.evaluate.counting import LabelCounts
from segpipe.lesions.places import NOWHERE, component_regions
from segpipe.metrics import detection, overlap, surface


def score_row(
    case: str, label: str, flags: list[str], counts: LabelCounts, tolerance_mm: float
) -> dict[str, Any]:
    """The row that ``segpipe score --json`` promises, with exactly these fields."""
    voxels, found, voxel_ml = counts.voxels, counts.matching, counts.voxel_volume_mm3 / 1000
    tally = tally_of(counts)
    wrong = counts.prediction_voxels[found.false_positives - 1]
    return {
        "case": case,
        "label": label,
        "status": "scored",
        "flags": flags,
        "dice": defined(overlap.dice(voxels)),
        "sensitivity": defined(overlap.sensitivity(voxels)),
        "precision": defined(overlap.precision(voxels)),
        "hd95_mm": defined(surface.hausdorff95_mm(counts.surfaces)),
        "surface_dice": defined(surface.surface_dice(counts.surfaces, tolerance_mm)),
        "reference_volume_ml": voxels.reference * voxel_ml,
        "prediction_volume_ml": voxels.prediction * voxel_ml,
        "reference_lesions": tally.detected + tally.missed,
        "predicted_regions": tally.true_positives + tally.false_positives,
        "detected_lesions": tally.detected,
        "missed_lesions": tally.missed,
        "true_positive_regions": tally.true_positives,
        "false_positive_regions": tally.false_positives,
        "false_positive_volume_ml": float(wrong.sum() * voxel_ml),
        "lesion_sensitivity": defined(detection.lesion_sensitivity(tally)),
        "lesion_precision": defined(detection.lesion_precision(tally)),
        "lesion_f1": defined(detection.lesion_f1(tally)),
    }


def tally_of(counts: LabelCounts) -> detection.DetectionCounts:
    """The four numbers of lesion-wise detection."""
    found = counts.matching
    return detection.DetectionCounts(
        len(found.detected),
        len(found.missed),
        len(found.true_positives),
        len(found.false_positives),
    )


def defined(value: float) -> float | None:
    """The value, or None where it is nan."""
    return None if math.isnan(value) else float(value)


def detail_row(
    case: str, label: str, counts: LabelCounts, regions: Mapping[str, np.ndarray] | None
) -> dict[str, Any]:
    """Further figures of the same case and label, beside the promised row.

    ``regions`` is None where no region maps were given; otherwise it has a count for each region
    and for ``none``.
    """
    voxels, voxel_mm3, found = counts.voxels, counts.voxel_volume_mm3, counts.matching
    lesions = np.flatnonzero(counts.reference_counted) + 1
    return {
        "case": case,
        "label": label,
        "iou": defined(overlap.iou(voxels)),
        "assd_mm": defined(surface.average_symmetric_mm(counts.surfaces)),
        "volume_error_ml": overlap.volume_error_ml(voxels, voxel_mm3),
        "relative_volume_error": defined(overlap.relative_volume_error(voxels)),
        "missed_volume_ml": float(
            counts.reference_voxels[found.missed - 1].sum() * voxel_mm3 / 1000
        ),
        "ignored_lesions": int((~counts.reference_counted).sum()),
        "ignored_regions": len(found.ignored_predictions),
        "removed_regions": counts.removed.components,
        "removed_volume_ml": counts.removed.volume_ml,
        "lesions_lost": counts.lesions_lost,
        "by_size": detection.by_size(
            counts.reference_voxels[lesions - 1] * voxel_mm3,
            np.isin(lesions, found.detected),
            counts.prediction_voxels[found.false_positives - 1] * voxel_mm3,
        ),
        "regions": None if regions is None else _by_region(counts, regions),
    }


def _by_region(counts: LabelCounts, regions: Mapping[str, np.ndarray]) -> dict[str, dict]:
    cropped = {name: region[counts.box] for name, region in regions.items()}
    lesions, predicted = (
        np.array(component_regions(labels, len(voxels), cropped), dtype=object)
        for labels, voxels in (
            (counts.reference_labels, counts.reference_voxels),
            (counts.prediction_labels, counts.prediction_voxels),
        )
    )
    found = counts.matching
    result = {}
    for name in (*regions, NOWHERE):
        wrong = found.false_positives[predicted[found.false_positives - 1] == name]
        hits = int((predicted[found.true_positives - 1] == name).sum())
        detected = int((lesions[found.detected - 1] == name).sum())
        missed = int((lesions[found.missed - 1] == name).sum())
        volume_mm3 = counts.prediction_voxels[wrong - 1].sum() * counts.voxel_volume_mm3
        result[name] = {
            "reference_lesions": detected + missed,
            "detected_lesions": detected,
            "missed_lesions": missed,
            "predicted_regions": hits + len(wrong),
            "true_positive_regions": hits,
            "false_positive_regions": len(wrong),
            "false_positive_volume_ml": float(volume_mm3 / 1000),
        }
    return result
