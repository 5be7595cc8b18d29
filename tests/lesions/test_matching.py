import numpy as np
import pytest

from segpipe.config.rules import Rule, parse_rule
from segpipe.lesions.matching import Overlaps, find_overlaps, match, match_overlaps

REFERENCE = np.array([[[1, 1, 1, 1, 0, 2, 0, 3, 0, 0]]])
PREDICTION = np.array([[[1, 0, 2, 2, 2, 2, 0, 0, 0, 3]]])


@pytest.mark.parametrize("text", ["", "all", "iou", "iou:0", "iou:1.1", "overlap:-1", "iou:x"])
def test_unknown_rule_says_what_was_expected(text):
    with pytest.raises(ValueError, match=r"expected one of any, .* or iou:X or overlap:X"):
        parse_rule(text)


def test_rules_are_read():
    assert parse_rule("any") == Rule("any")
    assert parse_rule("overlap:.1") == Rule("overlap", 0.1)
    assert parse_rule("iou:1") == Rule("iou", 1.0)


def test_overlaps_count_common_voxels():
    found = find_overlaps(REFERENCE, PREDICTION)
    assert found.reference.tolist() == [1, 1, 2]
    assert found.prediction.tolist() == [1, 2, 2]
    assert found.voxels.tolist() == [1, 2, 1]


def test_any_is_many_to_many():
    found = match(REFERENCE, PREDICTION, Rule("any"))
    assert found.links.tolist() == [[1, 1], [1, 2], [2, 2]]
    assert found.detected.tolist() == [1, 2]
    assert found.missed.tolist() == [3]
    assert found.true_positives.tolist() == [1, 2]
    assert found.false_positives.tolist() == [3]
    assert found.ignored_predictions.tolist() == []


def test_one_to_one_prefers_more_pairs_over_more_overlap():
    found = match(REFERENCE, PREDICTION, Rule("overlap", 0.1))
    assert found.links.tolist() == [[1, 1], [2, 2]]


def test_iou_counts_the_union():
    found = match(REFERENCE, PREDICTION, Rule("iou", 0.3))  # 1-1: 1/4, 1-2: 2/6, 2-2: 1/4
    assert found.links.tolist() == [[1, 2]]
    assert found.missed.tolist() == [2, 3]
    assert found.false_positives.tolist() == [1, 3]
    reached = match(REFERENCE, PREDICTION, Rule("iou", 0.25))
    assert reached.links.tolist() == [[1, 1], [2, 2]]


@pytest.mark.parametrize("rule", [Rule("any"), Rule("overlap", 0.2), Rule("iou", 0.1)])
def test_lesion_that_does_not_count_is_neither_missed_nor_a_false_positive_where_found(rule):
    overlaps = Overlaps(np.array([1, 2]), np.array([1, 2]), np.array([1, 3]))
    found = match_overlaps(
        overlaps,
        np.array([1, 3, 1]),
        np.array([2, 3, 4]),
        rule,
        reference_counted=np.array([False, True, False]),
        prediction_kept=np.array([True, True, True]),
    )
    assert found.detected.tolist() == [2]
    assert found.missed.tolist() == []
    assert found.ignored_predictions.tolist() == [1]
    assert found.false_positives.tolist() == [3]


def test_removed_prediction_finds_nothing():
    overlaps = Overlaps(np.array([1]), np.array([1]), np.array([1]))
    found = match_overlaps(
        overlaps,
        np.array([5]),
        np.array([1]),
        Rule("any"),
        reference_counted=np.array([True]),
        prediction_kept=np.array([False]),
    )
    assert found.missed.tolist() == [1]
    assert found.true_positives.tolist() == found.false_positives.tolist() == []
