"""What every metric says about empty masks, in one table."""

import math

import numpy as np
import pytest

from segpipe.metrics import detection, overlap, panoptic, surface

NAN = math.nan
MASKS = {"empty": np.zeros((4, 4, 4), bool), "full": np.ones((4, 4, 4), bool)}
#                    (reference, prediction):    empty/empty  empty/full  full/empty  full/full
TABLE = {
    "dice": (NAN, 0.0, 0.0, 1.0),
    "iou": (NAN, 0.0, 0.0, 1.0),
    "sensitivity": (NAN, NAN, 0.0, 1.0),
    "precision": (NAN, 0.0, NAN, 1.0),
    "volume_error_ml": (0.0, 0.128, -0.128, 0.0),
    "absolute_volume_error_ml": (0.0, 0.128, 0.128, 0.0),
    "relative_volume_error": (NAN, NAN, -1.0, 0.0),
    "hausdorff95_mm": (NAN, NAN, NAN, 0.0),
    "average_symmetric_mm": (NAN, NAN, NAN, 0.0),
    "surface_dice": (NAN, 0.0, 0.0, 1.0),
    "lesion_sensitivity": (NAN, NAN, 0.0, 1.0),
    "lesion_precision": (NAN, 0.0, NAN, 1.0),
    "lesion_f1": (NAN, NAN, 0.0, 1.0),
    "harmonic_f1": (NAN, NAN, 0.0, 1.0),
    "lesionwise_dice": (NAN, 0.0, 0.0, 1.0),
    "recognition_quality": (NAN, 0.0, 0.0, 1.0),
    "segmentation_quality": (NAN, NAN, NAN, 1.0),
    "panoptic_quality": (NAN, 0.0, 0.0, 1.0),
}
FROM_MATCHES = {  # perfect matches, lesions, regions
    "lesionwise_dice": lambda both, lesions, regions: detection.lesionwise_dice(
        np.full(lesions, float(both)), regions - both
    ),
    "recognition_quality": panoptic.recognition_quality,
    "segmentation_quality": lambda both, *_: panoptic.segmentation_quality(np.ones(both)),
    "panoptic_quality": lambda both, *rest: panoptic.panoptic_quality(np.ones(both), *rest),
}
PAIRS = [("empty", "empty"), ("empty", "full"), ("full", "empty"), ("full", "full")]


def compute(metric, reference, prediction):
    if hasattr(overlap, metric):
        counts = overlap.count_voxels(reference, prediction)
        extra = (2.0,) if metric.endswith("volume_error_ml") else ()
        return getattr(overlap, metric)(counts, *extra)
    lesions, regions = int(reference.any()), int(prediction.any())
    both = lesions * regions
    if metric in FROM_MATCHES:
        return FROM_MATCHES[metric](both, lesions, regions)
    if hasattr(detection, metric):
        counts = detection.DetectionCounts(both, lesions - both, both, regions - both)
        return getattr(detection, metric)(counts)
    distances = surface.surface_distances(reference, prediction, np.eye(3))
    extra = (1.0,) if metric == "surface_dice" else ()
    return getattr(surface, metric)(distances, *extra)


@pytest.mark.parametrize("metric", TABLE)
@pytest.mark.parametrize("case", range(4))
def test_empty_masks(metric, case):
    reference, prediction = (MASKS[name] for name in PAIRS[case])
    found = compute(metric, reference, prediction)
    np.testing.assert_equal(found, TABLE[metric][case])


@pytest.mark.parametrize("metric", TABLE)
def test_docstring_states_all_three(metric):
    modules = (overlap, detection, panoptic, surface)
    module = next(m for m in modules if hasattr(m, metric))
    text = " ".join(getattr(module, metric).__doc__.split())
    sides = (
        ("No lesion and no region:", "No lesion, some regions:", "Lesions, no region:")
        if module in (detection, panoptic)
        else ("Empty reference and prediction:", "Empty reference only:", "Empty prediction only:")
    )
    for statement in sides:
        assert statement in text
