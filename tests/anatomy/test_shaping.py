import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.anatomy import false_positive_weight, shape_map
from segpipe.config import RegionConfig


def ball(shape, centre, radius_mm, spacing):
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    return np.linalg.norm((grid - centre) * spacing, axis=-1) <= radius_mm


def test_margin_reaches_exactly_the_euclidean_distance_in_mm():
    spacing = np.array([1.0, 1.5, 3.0])
    point = np.zeros((21, 15, 9), np.float32)
    point[10, 7, 4] = 1
    grown = shape_map(point, spacing, margin_mm=4.5)
    assert np.array_equal(grown, ball(point.shape, (10, 7, 4), 4.5, spacing))


def test_negative_margin_erodes_and_never_from_the_border_of_the_array():
    mask = np.zeros((12, 1, 1), np.float32)
    mask[:6] = 1
    shrunk = shape_map(mask, (2.0, 1.0, 1.0), margin_mm=-4.0)
    assert shrunk.ravel().tolist() == [1, 1, 1, 1] + [0] * 8


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("margin_mm", [-5.0, 5.0])
def test_margin_leaves_empty_and_full_maps_as_they_are(value, margin_mm):
    flat = np.full((4, 4, 4), value)
    assert np.array_equal(shape_map(flat, (1, 1, 1), margin_mm=margin_mm), flat)


def test_threshold_is_strict_and_its_absence_keeps_a_map_soft():
    soft = np.array([0.2, 0.5, 0.8]).reshape(3, 1, 1)
    assert shape_map(soft, (1, 1, 1), threshold=0.5).ravel().tolist() == [0, 0, 1]
    assert shape_map(soft, (1, 1, 1)).ravel().tolist() == pytest.approx([0.2, 0.5, 0.8])


def test_soften_is_a_gaussian_in_mm():
    line = np.zeros((81, 1, 1))
    line[40:] = 1
    soft = shape_map(line, (0.5, 1, 1), soften_mm=2.0).ravel()
    slope = np.diff(soft) / 0.5
    position = (np.arange(80) - 39) * 0.5
    expected = np.exp(-(position**2) / 8) / np.sqrt(8 * np.pi)
    assert np.allclose(slope, expected, atol=2e-3)


def test_order_is_threshold_margin_soften():
    line = np.zeros((31, 1, 1))
    line[15] = 0.4
    grown = shape_map(line, (1, 1, 1), threshold=0.3, margin_mm=2, soften_mm=1).ravel()
    assert grown[15] == pytest.approx(0.987, abs=0.01)
    assert grown[18] == pytest.approx(0.31, abs=0.01)
    assert grown[0] == 0


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(-3, 3),
    st.floats(0, 3),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_every_map_stays_between_0_and_1(seed, margin, soften, threshold):
    values = np.random.default_rng(seed).random((6, 5, 4))
    made = shape_map(values, (1, 2, 3), threshold=threshold, margin_mm=margin, soften_mm=soften)
    assert made.dtype == np.float32
    assert made.min() >= 0
    assert made.max() <= 1


def masks(*weights, **more):
    return [
        RegionConfig(name=f"r{i}", source="mask", file="f", weight=weight, **more)
        for i, weight in enumerate(weights)
    ]


def test_weight_is_the_weighted_sum_also_of_uint8_steps():
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 256, (4, 3, 2, 3), dtype=np.uint8)
    weights = (0.5, 2.0, 0.0)
    expected = sum(w * steps[..., r] / 255 for r, w in enumerate(weights))
    names, configured = ("r0", "r1", "r2"), masks(*weights)
    for maps in (steps, steps / 255):
        assert np.allclose(false_positive_weight(maps, names, configured), expected, atol=1e-6)
    some = false_positive_weight(steps[..., 1:], names[1:], configured)
    assert np.allclose(some, expected - 0.5 * steps[..., 0] / 255, atol=1e-6)


def test_a_case_without_regions_weighs_one_everywhere():
    nothing = np.zeros((2, 3, 4, 0), np.uint8)
    for configured in ([], masks(3.0)):
        assert np.array_equal(false_positive_weight(nothing, (), configured), np.ones((2, 3, 4)))


def test_a_floor_raises_what_a_region_weighs():
    maps = np.array([[0.0, 0.0], [0.1, 1.0], [1.0, 0.5]])
    configured = [*masks(2.0, floor=0.25), RegionConfig(name="rest", source="complement")]
    found = false_positive_weight(maps, ("r0", "rest"), configured)
    assert found.tolist() == [0.5, 1.5, 2.5]


def test_where_a_complement_is_left_out_what_is_in_no_region_weighs_one():
    maps = np.array([[0.0], [0.5], [1.0]])
    configured = [*masks(3.0, floor=0.5), RegionConfig(name="rest", source="complement", weight=9)]
    assert false_positive_weight(maps, ("r0",), configured).tolist() == [2.5, 2.0, 3.0]
