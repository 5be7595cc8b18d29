import math

import numpy as np
import pytest

from segpipe.metrics import detection, overlap

COUNTS = overlap.VoxelCounts(reference=8, prediction=5, both=4)


def test_counts():
    a = np.array([[[1, 1, 0, 0]]], bool)
    b = np.array([[[0, 1, 1, 1]]], bool)
    assert overlap.count_voxels(a, b) == overlap.VoxelCounts(2, 3, 1)


def test_voxel_scores():
    assert overlap.dice(COUNTS) == 8 / 13
    assert overlap.iou(COUNTS) == 4 / 9
    assert overlap.sensitivity(COUNTS) == 0.5
    assert overlap.precision(COUNTS) == 0.8
    assert overlap.volume_error_ml(COUNTS, 2.0) == -0.006
    assert overlap.absolute_volume_error_ml(COUNTS, 2.0) == 0.006
    assert overlap.relative_volume_error(COUNTS) == -3 / 8


def test_lesion_scores():
    counts = detection.DetectionCounts(detected=3, missed=1, true_positives=5, false_positives=2)
    assert detection.lesion_sensitivity(counts) == 3 / 4
    assert detection.lesion_precision(counts) == 5 / 7
    assert detection.lesion_f1(counts) == pytest.approx(3 / (3 + 1.5))


def test_by_size_and_its_sum():
    first = detection.by_size(
        np.array([1.0, 10.0, 12.0]),
        np.array([False, True, False]),
        np.array([9.99, 500.0]),
        edges_mm3=(0, 10, math.inf),
    )
    assert first == [
        {
            "low_mm3": 0.0,
            "high_mm3": 10.0,
            "lesions": 1,
            "detected": 0,
            "sensitivity": 0.0,
            "false_positive_regions": 1,
            "false_positive_volume_ml": pytest.approx(0.00999),
        },
        {
            "low_mm3": 10.0,
            "high_mm3": None,
            "lesions": 2,
            "detected": 1,
            "sensitivity": 0.5,
            "false_positive_regions": 1,
            "false_positive_volume_ml": 0.5,
        },
    ]
    nothing = detection.by_size(np.array([]), np.array([]), np.array([]), (0, 10, math.inf))
    assert nothing[0]["sensitivity"] is None
    assert detection.add_by_size([first, nothing]) == first
    twice = detection.add_by_size([first, first])
    assert (twice[1]["lesions"], twice[1]["detected"], twice[1]["sensitivity"]) == (4, 2, 0.5)
    assert (twice[1]["false_positive_regions"], twice[1]["false_positive_volume_ml"]) == (2, 1.0)


@pytest.mark.parametrize(
    ("found", "of", "over_patients", "expected"),
    [
        (8, 10, None, (0.4902, 0.9433)),  # fewer than two patients: Wilson's
        (8, 10, (0.6, 0.9), (0.4902, 0.9433)),
        (8, 10, (0.2, 1.0), (0.2, 1.0)),
        (8, 10, (0.2, 0.9), (0.2, 0.9433)),
        (10, 10, (1.0, 1.0), (0.7225, 1.0)),  # the bootstrap has no width
        (0, 10, (0.0, 0.0), (0.0, 0.2775)),
    ],
)
def test_interval_of_pooled_sensitivity_is_the_wider_of_both(found, of, over_patients, expected):
    limits = detection.share_interval(found, of, over_patients)
    assert limits == pytest.approx(expected, abs=1e-4)
    assert detection.share_interval(0, 0, over_patients) is None
