"""The judges are judged: worked examples by hand, and differences that must be noticed."""

import numpy as np
import pytest

from benchmarks import ranking, readers
from benchmarks.oracle import rules
from benchmarks.oracle.compare import SINGLE, Comparison, compare
from benchmarks.oracle.speed import redrawn
from segpipe.volume import Volume


def line(length, *spans):
    """A line of voxels with the given half-open spans."""
    mask = np.zeros((length, 1, 1), bool)
    for start, stop in spans:
        mask[start:stop] = True
    return mask


def boxes(*corners):
    mask = np.zeros((40, 9, 9), bool)
    for (x0, x1), (y0, y1) in corners:
        mask[x0:x1, y0:y1, y0:y1] = True
    return mask


REFERENCE = line(20, (0, 3), (5, 8), (10, 12), (18, 20))
PREDICTION = line(20, (2, 6), (10, 11), (14, 15), (16, 17))


def test_any_by_hand():
    found = rules.at_least_a_voxel(REFERENCE, PREDICTION)
    assert (found["detected_lesions"], found["missed_lesions"]) == (3, 1)
    assert (found["true_positive_regions"], found["false_positive_regions"]) == (2, 2)
    assert found["lesion_f1"] == pytest.approx(3 / 4.5)
    assert found["wmh_f1"] == pytest.approx(2 * 0.75 * 0.5 / 1.25)


def test_autopet_by_hand():
    found = rules.autopet(REFERENCE, PREDICTION, 0.001)
    assert found["missed_volume_ml"] == pytest.approx(0.002)
    assert found["false_positive_volume_ml"] == pytest.approx(0.002)
    corner = np.zeros((2, 2, 2), bool)
    corner[0, 0, 0] = corner[1, 1, 1] = True  # apart for 18 neighbours
    first = np.zeros_like(corner)
    first[0, 0, 0] = True
    assert rules.autopet(corner, first, 1.0)["missed_volume_ml"] == 1.0


def test_panoptic_by_hand():
    reference = line(20, (0, 4), (6, 10), (12, 14))
    found = rules.panoptic(reference, line(20, (0, 2), (3, 4), (6, 9), (16, 18)))
    assert (found["detected_lesions"], found["false_positive_regions"]) == (2, 2)
    assert found["segmentation_quality"] == pytest.approx(0.625)
    assert found["recognition_quality"] == pytest.approx(2 / 3.5)
    assert found["panoptic_quality"] == pytest.approx(1.25 / 3.5)


@pytest.mark.parametrize(
    ("steps", "limit_mm3", "counts", "dice", "hd95_mm"),
    [
        (3, 50.0, (1, 0, 1), 0.75 / 2, (2 + 374) / 2),
        (1, 50.0, (1, 0, 2), 0.75 / 3, (2 + 2 * 374) / 3),
        (1, 2.0, (1, 1, 2), 0.75 / 4, (2 + 3 * 374) / 4),
    ],
)
def test_brats23_by_hand(steps, limit_mm3, counts, dice, hd95_mm):
    """Two boxes 2 voxels apart are one lesion; one of 8 mm³ counts for METS alone."""
    reference = boxes(((2, 8), (2, 6)), ((10, 12), (2, 6)), ((25, 27), (2, 4)), ((35, 36), (4, 5)))
    prediction = boxes(((4, 12), (2, 6)), ((16, 17), (2, 6)), ((29, 30), (2, 4)))

    def hausdorff(lesion, pooled):
        assert (lesion.sum(), pooled.sum()) == (128, 128)
        return 2.0

    found = rules.brats23(reference, prediction, 1.0, hausdorff, steps, limit_mm3)
    names = ("detected_lesions", "missed_lesions", "false_positive_regions")
    assert tuple(found[name] for name in names) == counts
    assert found["lesionwise_dice"] == pytest.approx(dice)
    assert found["lesionwise_hd95_mm"] == pytest.approx(hd95_mm)


def test_msseg_by_hand():
    reference = line(100, (0, 10), (20, 30), (40, 43), (50, 60), (70, 90))
    spans = (0, 1), (22, 40), (51, 56), (70, 76), (77, 81), (82, 86), (95, 99)
    found = rules.msseg(reference, line(100, *spans), 1.0)
    assert (found["detected_lesions"], found["reference_lesions"]) == (3, 4)
    assert (found["true_positive_regions"], found["predicted_regions"]) == (5, 6)
    assert found["lesion_f1"] == pytest.approx(2 * 0.75 * (5 / 6) / (0.75 + 5 / 6))


def test_msseg_asks_what_lies_outside_every_lesion():
    wide = line(60, (11, 30))
    assert rules.msseg(line(60, (10, 14), (20, 24)), wide, 1.0)["detected_lesions"] == 2
    alone = rules.msseg(line(60, (10, 14)), wide, 1.0)  # 16 of 19 voxels outside
    assert (alone["detected_lesions"], alone["true_positive_regions"]) == (0, 1)


def test_msseg_stops_early_where_the_program_does():
    reference = np.zeros((30, 30, 1), bool)
    reference[:24, 0] = True
    prediction = np.zeros_like(reference)
    prediction[0:5, 0] = prediction[7:12, 0] = True
    prediction[14:18, 0:20] = True  # the third in order lies mostly outside
    prediction[20:23, 0] = prediction[23:24, 0] = True
    assert rules.msseg(reference, prediction, 1.0)["detected_lesions"] == 0
    early = rules.msseg(reference, prediction, 1.0, stops_early=True)
    assert early["detected_lesions"] == 1


def test_border_voxels_by_hand():
    found = rules.border_distances(line(20, (2, 3)), line(20, (5, 6)), (2.0, 1.0, 1.0), 6.0)
    assert found == {"hd95_mm": 6.0, "assd_mm": 6.0, "surface_dice": 1.0}


def compared(judge, ours, relative=1e-6, why=""):
    comparison = Comparison("x", "judge", "rule", ["n", "share"], relative, why)
    sides = {"judge": judge, "nobody's": {}}, {"rule": ours}
    return compare(comparison, {"a": sides[0], "b": {}}, {"a": sides[1], "b": sides[1]})


def test_equal_figures_are_accepted():
    row = compared({"n": 3, "share": 0.5}, {"n": 3, "share": 0.5 + 1e-8})
    assert (row["pairs"], row["different"], row["accepted"]) == (1, 0, True)
    assert row["largest gap"] == pytest.approx(1e-8)


@pytest.mark.parametrize(
    ("judge", "ours"),
    [
        ({"n": 3, "share": 0.5}, {"n": 4, "share": 0.5}),
        ({"n": 3, "share": 0.5}, {"n": 3, "share": 0.500001}),
        ({"n": 3, "share": None}, {"n": 3, "share": 0.0}),
        ({"n": 3, "share": 0.5}, {"n": 3, "share": None}),
    ],
)
def test_any_difference_is_noticed_and_needs_a_reason(judge, ours):
    row = compared(judge, ours)
    assert (row["different"], row["accepted"]) == (1, False)
    assert row["example"].startswith("a: ")
    assert compared(judge, ours, why="known")["accepted"]


def test_single_precision_is_allowed_where_it_is_said():
    assert compared({"n": 3, "share": 0.5}, {"n": 3, "share": 0.500001}, SINGLE)["accepted"]


def test_readers_are_added_up_whatever_the_order_of_their_bits():
    bits = np.zeros((12, 5, 5), np.uint8)
    bits[1:3, 2, 2] = 0b0001  # one reader: false positive
    bits[5:7, 2, 2] = 0b0011  # two readers: found by two, missed by two
    bits[9:11, 2, 2] = 0b1111
    shuffled = bits.copy()
    shuffled[1:3, 2, 2], shuffled[5:7, 2, 2] = 0b0100, 0b1010
    majority = np.zeros_like(bits)
    majority[5:7, 2, 2], majority[9:11, 2, 2] = 1, 2
    for array in (bits, shuffled):
        volume = Volume(array, np.eye(4))
        counts = readers.score_bits(volume, Volume(majority, np.eye(4)))
        assert tuple(counts.values()) == (8, 6, 1)
        others = readers.score_bits(volume)
        assert tuple(others.values()) == (2 + 4, 4, 1 + 2)


def test_programs_are_ranked_figure_by_figure():
    def row(dice, invented):
        names = ("surface_dice", "lesion_sensitivity", "lesion_f1", "false_positive_volume_ml")
        return {**dict.fromkeys(names, 0.5), "dice": dice, "false_positive_regions": invented}

    first, second = ranking.ranked({"a": [row(0.4, 1), row(0.6, 2)], "b": [row(0.7, 9)]})
    assert (first["program"], first["Dice"], first["rank by Dice"]) == ("b", 0.7, 1)
    assert (second["rank by Dice"], second["rank by false-positive regions"]) == (2, 1)
    assert first["rank by lesion F1"] == second["rank by lesion F1"] == 1


def test_a_redrawn_mask_is_near_the_first_and_invents():
    mask = np.zeros((60, 60, 40), bool)
    mask[20:32, 20:32, 15:25] = True
    drawn = redrawn(mask)
    assert 0 < (drawn & ~mask).sum() < 40 * 15
    np.testing.assert_array_equal(drawn, redrawn(mask))
