import numpy as np

from segpipe.config.rules import Rule
from segpipe.lesions.classes import class_map
from segpipe.lesions.matching import match
from segpipe.lesions.paint import paint
from segpipe.lesions.places import component_regions


def test_paint_shows_found_invented_and_missed():
    reference = np.array([[[1, 1, 0, 0, 2, 2]]])
    prediction = np.array([[[0, 1, 1, 0, 0, 0]], [[0, 0, 0, 0, 2, 2]]])
    reference = np.concatenate([reference, np.zeros_like(reference)])
    painted = paint(reference, prediction, match(reference, prediction, Rule("any")))
    assert painted.dtype == np.uint8
    assert painted.tolist() == [[[0, 1, 1, 0, 3, 3]], [[0, 0, 0, 0, 2, 2]]]


def test_paint_shows_the_prediction_where_it_lies_over_a_missed_lesion():
    reference, prediction = np.array([[[1, 1, 1]]]), np.array([[[0, 0, 1]]])
    painted = paint(reference, prediction, match(reference, prediction, Rule("iou", 0.5)))
    assert painted.tolist() == [[[3, 3, 2]]]


def test_threshold_is_strict_in_the_precision_of_the_map():
    p = np.array([[[0.3, np.nextafter(np.float32(0.3), np.float32(1))]]], np.float32)
    assert class_map(p, 0.3).tolist() == [[[0, 1]]]
    assert class_map(p, np.float64(0.3)).tolist() == [[[0, 1]]]


def test_classes_add_up_and_the_largest_wins():
    p = np.array([[[[0.2, 0.35], [0.25, 0.25], [0.3, 0.3], [0.0, 0.6], [np.nan, 0.6]]]])
    assert class_map(p, 0.5).tolist() == [[[2, 0, 1, 2, 2]]]
    assert class_map(p[..., 1:], 0.5).tolist() == [[[0, 0, 0, 1, 1]]]


def test_nan_is_background():
    assert class_map(np.array([[[np.nan, 0.9]]]), 0.0).tolist() == [[[0, 1]]]


def test_component_belongs_to_the_region_it_overlaps_most():
    labels = np.array([[[1, 1, 1, 2, 2, 3, 4]]])
    left = np.array([[[1, 0, 0, 1, 0, 0, np.nan]]])
    right = np.array([[[0.0, 0.6, 0.5, 0, 1, 0, 0]]])
    regions = {"left": left, "right": right}
    assert component_regions(labels, 4, regions) == ("right", "left", "none", "none")
    assert component_regions(labels, 4, {}) == ("none",) * 4
