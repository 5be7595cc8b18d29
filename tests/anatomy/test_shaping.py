import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.anatomy import penalty_map, shape_map


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


def test_order_is_threshold_margin_soften_floor():
    line = np.zeros((31, 1, 1))
    line[15] = 0.4
    grown = shape_map(line, (1, 1, 1), threshold=0.3, margin_mm=2, soften_mm=1, floor=0.1).ravel()
    assert grown[15] == pytest.approx(0.987, abs=0.01)
    assert grown[18] == pytest.approx(0.31, abs=0.01)
    assert grown[0] == np.float32(0.1)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(-3, 3),
    st.floats(0, 3),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_every_map_stays_between_floor_and_one(seed, margin, soften, floor, threshold):
    values = np.random.default_rng(seed).random((6, 5, 4))
    made = shape_map(
        values, (1, 2, 3), threshold=threshold, margin_mm=margin, soften_mm=soften, floor=floor
    )
    assert made.dtype == np.float32
    assert made.min() >= np.float32(floor)
    assert made.max() <= 1


def test_penalty_is_the_weighted_sum_also_of_uint8_steps():
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 256, (4, 3, 2, 3), dtype=np.uint8)
    weights = (0.5, 2.0, 0.0)
    expected = sum(w * steps[..., r] / 255 for r, w in enumerate(weights))
    assert np.allclose(penalty_map(steps, weights), expected, atol=1e-6)
    assert np.allclose(penalty_map(steps / 255, weights), expected, atol=1e-6)


def test_no_regions_weigh_one_everywhere():
    assert np.array_equal(penalty_map(np.zeros((2, 3, 4, 0), np.uint8), ()), np.ones((2, 3, 4)))


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (1.0, float("nan"))])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="weights: expected"):
        penalty_map(np.zeros((2, 2, 2, 2)), weights)
