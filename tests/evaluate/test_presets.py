"""Presets on worked examples: the numbers that their sources' definitions give by hand."""

import numpy as np
import pytest

from segpipe.evaluate.score import score_labels
from segpipe.evaluate.settings import ScoreSettings
from segpipe.volume import Volume


def line(*spans, length=100):
    array = np.zeros((length, 1, 1), np.uint8)
    for low, high in spans:
        array[low:high] = 1
    return array


def blocks(*boxes):
    array = np.zeros((40, 9, 9), np.uint8)
    for (x0, x1), (y0, y1) in boxes:
        array[x0:x1, y0:y1, y0:y1] = 1
    return array


def scored(rule, reference, prediction, **settings):
    volumes = (Volume(a, np.eye(4)) for a in (reference, prediction))
    (score,) = score_labels("c", *volumes, {"l": 1}, ScoreSettings(rule=rule, **settings))
    return score.row | score.detail


def counts(row):
    names = ("detected_lesions", "missed_lesions", "true_positive_regions")
    return tuple(row[name] for name in (*names, "false_positive_regions"))


LONG = line((0, 3), (5, 8), (10, 12), (18, 20), length=20)
SHORT = line((2, 6), (10, 11), (14, 15), (16, 17), length=20)


def test_any_has_the_f1_of_isles():
    row = scored("any", LONG, SHORT)
    assert counts(row) == (3, 1, 2, 2)
    assert row["lesion_f1"] == pytest.approx(3 / 4.5)


def test_autopet_counts_volumes_of_18_connected_components():
    row = scored("autopet", LONG, SHORT)
    assert row["false_positive_volume_ml"] == pytest.approx(0.002)
    assert row["missed_volume_ml"] == pytest.approx(0.002)
    corner, hit = np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 2), np.uint8)
    corner[0, 0, 0] = corner[1, 1, 1] = hit[0, 0, 0] = 1
    assert scored("autopet", corner, hit)["missed_volume_ml"] == pytest.approx(0.001)
    assert scored("any", corner, hit)["missed_volume_ml"] == 0
    assert scored("autopet", corner, hit, connectivity=26)["missed_lesions"] == 0


def test_panoptic_matches_greedily_from_half_the_union():
    reference = line((0, 4), (6, 10), (12, 14), length=20)
    row = scored("panoptic", reference, line((0, 2), (3, 4), (6, 9), (16, 18), length=20))
    assert counts(row) == (2, 1, 2, 2)
    assert row["segmentation_quality"] == pytest.approx(0.625)
    assert row["recognition_quality"] == pytest.approx(2 / 3.5)
    assert row["panoptic_quality"] == pytest.approx(1.25 / 3.5)


def test_panoptic_quality_is_the_same_whatever_the_rule():
    reference = line((0, 4), (6, 10), (12, 14), length=20)
    prediction = line((0, 2), (3, 4), (6, 9), (16, 18), length=20)
    assert scored("any", reference, prediction)["panoptic_quality"] == pytest.approx(1.25 / 3.5)
    nothing = np.zeros_like(reference)
    assert scored("any", nothing, nothing)["panoptic_quality"] is None
    assert scored("any", nothing, prediction)["recognition_quality"] == 0
    assert scored("any", reference, nothing)["panoptic_quality"] == 0
    assert scored("any", reference, nothing)["segmentation_quality"] is None


def test_a_region_that_counts_is_in_the_recognition_quality_whatever_it_matches_best():
    """It shares a voxel with a lesion that counts, and half of it is a lesion too small to."""
    reference = line((0, 6), (7, 9), (12, 16), length=30)
    prediction = line((5, 9), (12, 16), (18, 21), length=30)
    row = scored("any", reference, prediction, min_size_mm3=3.0)
    assert (row["reference_lesions"], row["predicted_regions"]) == (2, 3)
    assert row["recognition_quality"] == pytest.approx(1 / 2.5)
    assert row["panoptic_quality"] == pytest.approx(1 / 2.5)


def test_panoptic_quality_leaves_out_what_the_rule_leaves_out():
    reference, prediction = np.zeros((16, 8, 8), np.uint8), np.zeros((16, 8, 8), np.uint8)
    reference[:5, :5, :5] = prediction[:5, :5, :5] = 1
    reference[12:15, :3, :3] = 1  # 27 mm³: missed, but below the 50 mm³ of brats23
    assert scored("any", reference, prediction)["recognition_quality"] == pytest.approx(2 / 3)
    row = scored("brats23", reference, prediction)
    assert (row["reference_lesions"], row["ignored_lesions"]) == (1, 1)
    assert (row["recognition_quality"], row["panoptic_quality"]) == (1, 1)


def test_panoptic_quality_leaves_out_regions_that_found_only_what_does_not_count():
    reference, prediction = np.zeros((20, 8, 8), np.uint8), np.zeros((20, 8, 8), np.uint8)
    reference[12, 3, 3] = prediction[12:15, 3:6, 3] = 1
    row = scored("any", reference, prediction, min_size_mm3=5)
    assert (row["ignored_regions"], row["false_positive_regions"]) == (1, 0)
    assert row["panoptic_quality"] is None
    reference[1:5, 1:5, 1:5] = prediction[1:5, 1:5, 1:5] = 1
    assert scored("any", reference, prediction, min_size_mm3=5)["panoptic_quality"] == 1


BRATS_REFERENCE = blocks(
    ((2, 8), (2, 6)), ((10, 12), (2, 6)), ((25, 27), (2, 4)), ((35, 36), (4, 5))
)
BRATS_PREDICTION = blocks(((4, 12), (2, 6)), ((16, 17), (2, 6)), ((29, 30), (2, 4)))


def test_brats_merges_by_dilation_pools_and_ignores_small_lesions():
    row = scored("brats23", BRATS_REFERENCE, BRATS_PREDICTION)
    assert counts(row) == (1, 0, 1, 1)
    assert (row["ignored_lesions"], row["ignored_regions"]) == (2, 1)
    assert row["lesionwise_dice"] == pytest.approx(0.75 / 2)
    assert row["lesionwise_hd95_mm"] == pytest.approx((2 + 374) / 2)


def test_brats_for_metastases_reaches_less_far_and_counts_smaller_lesions():
    row = scored("brats23-met", BRATS_REFERENCE, BRATS_PREDICTION)
    assert counts(row) == (1, 1, 1, 2)
    assert row["lesionwise_dice"] == pytest.approx(0.75 / 4)
    assert row["lesionwise_hd95_mm"] == pytest.approx((2 + 374 + 748) / 4)


def test_brats_pools_a_component_that_merely_comes_near():
    row = scored("brats23-met", blocks(((2, 6), (2, 6))), blocks(((6, 7), (5, 6))))
    assert counts(row) == (1, 0, 1, 0)
    assert row["lesionwise_dice"] == 0


def test_lesionwise_dice_pools_every_component_that_overlaps():
    row = scored("any", line((0, 10), (20, 30)), line((0, 4), (6, 10), (50, 55)))
    assert row["lesionwise_dice"] == pytest.approx((16 / 18 + 0) / 3)
    assert row["lesionwise_hd95_mm"] is None


def test_msseg_asks_for_coverage_on_both_sides():
    reference = line((0, 10), (20, 30), (40, 43), (50, 60), (70, 90))
    prediction = line((0, 1), (22, 40), (51, 56), (70, 76), (77, 81), (82, 86), (95, 99))
    row = scored("msseg", reference, prediction)
    assert counts(row) == (3, 1, 5, 1)
    assert row["lesion_f1"] == pytest.approx(2 * 0.75 * (5 / 6) / (0.75 + 5 / 6))


def test_msseg_counts_as_outside_what_lies_outside_all_lesions():
    prediction = line((11, 30))
    assert counts(scored("msseg", line((10, 14), (20, 24)), prediction)) == (2, 0, 1, 0)
    alone = scored("msseg", line((10, 14)), prediction)
    assert counts(alone) == (0, 1, 1, 0)
    assert alone["lesion_f1"] == 0


def test_rule_gives_the_connectivity_unless_the_settings_do():
    assert ScoreSettings(rule="msseg").connectivity == 6
    assert ScoreSettings(rule="msseg", connectivity=18).connectivity == 18
    assert ScoreSettings().connectivity == 26


def test_hysteresis_removes_components_without_a_core():
    reference = Volume(line((0, 4), (10, 14), length=20), np.eye(4))
    p = np.zeros((20, 1, 1), np.float32)
    p[0:4], p[10:14], p[16:18] = 0.6, 0.6, 0.95
    p[2] = 0.9
    settings = ScoreSettings(core_threshold=0.8)
    (score,) = score_labels("c", reference, Volume(p, np.eye(4)), {"l": 1}, settings)
    assert counts(score.row) == (1, 1, 1, 1)
    assert score.row["dice"] == pytest.approx(2 * 4 / (8 + 6))
    assert score.detail["removed_regions"] == 1
    assert score.detail["lesions_lost"] == 1
