"""Scaling to [0, 1] and what undoes it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segpipe.errors import DataError
from segpipe.prepare.intensity import (
    ChannelIntensities,
    channel_scaling,
    foreground_values,
    robust_range,
)

STATS = ChannelIntensities(low=-100, median=40, high=300, mean=50, std=80)


def normalised(array, mode, stats=None):
    scaling = channel_scaling(array, mode, stats)
    unit = scaling.apply(array)
    assert unit.dtype == np.float32
    assert unit.min() >= 0
    assert unit.max() <= 1
    assert scaling.scale > 0
    return (unit - np.float32(scaling.shift)) / np.float32(scaling.scale)


def test_zscore_is_over_the_brain_of_a_stripped_scan():
    rng = np.random.default_rng(0)
    scan = np.zeros((20, 20, 20), np.float32)
    scan[5:15, 5:15, 5:15] = rng.normal(500, 40, (10, 10, 10))
    inside = scan[5:15, 5:15, 5:15]
    expected = (inside - inside.mean()) / inside.std()
    got = normalised(scan, "zscore")[5:15, 5:15, 5:15]
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_zscore_is_over_everything_where_the_background_is_noise():
    scan = np.random.default_rng(1).normal(0, 3, (20, 20, 20)).astype(np.float32)
    scan[0, 0, :5] = 0
    got = normalised(scan, "zscore")
    np.testing.assert_allclose(got, (scan - scan.mean()) / scan.std(), atol=1e-3)
    assert foreground_values(scan).size == scan.size


def test_a_bright_lesion_is_kept_and_a_hot_voxel_is_clipped():
    scan = np.random.default_rng(2).uniform(100, 200, (30, 30, 30)).astype(np.float32)
    scan[3, 3, 3] = 280  # brighter than any percentile of the tissue
    scan[9, 9, 9] = 1e6
    low, high = robust_range(scan, scan.ravel())
    assert low == pytest.approx(100, abs=0.1)
    assert 280 < high < 310
    got = normalised(scan, "zscore")
    assert got[9, 9, 9] > got[3, 3, 3] > got[scan < 201].max()
    assert got.max() < 10


def test_ct_clips_to_the_training_set_and_uses_its_mean():
    scan = np.array([-1000, -100, 50, 130, 300, 2000], np.float32).reshape(6, 1, 1)
    expected = (np.clip(scan, -100, 300) - 50) / 80
    np.testing.assert_allclose(normalised(scan, "ct", STATS), expected, atol=1e-5)


@given(
    hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(-1e6, 1e6, width=32)),
    st.sampled_from(["zscore", "none", "ct"]),
)
def test_any_scan_gives_finite_values(scan, mode):
    assert np.isfinite(normalised(scan, mode, STATS)).all()


@given(hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(-1e6, 1e6, width=32)))
def test_none_undoes_its_scaling(scan):
    tolerance = 1e-5 * max(1e-30, float(np.abs(scan).max()))
    np.testing.assert_allclose(normalised(scan, "none"), scan, atol=tolerance)


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_constant_scans_become_0_by_zscore(value):
    scan = np.full((4, 4, 4), value, np.float32)
    assert np.array_equal(normalised(scan, "zscore"), np.zeros((4, 4, 4)))


def test_what_is_not_0_and_all_alike_stands_out_from_the_background():
    mask = np.zeros((40, 40, 40), np.float32)
    mask[5:35, 5:35, 5:35] = 3
    np.testing.assert_allclose(normalised(mask, "zscore"), np.where(mask > 0, 0, -1), atol=1e-6)
    mask[5, 5, 5:10] = 6  # fewer than the percentiles see
    found = normalised(mask, "zscore")
    assert found[0, 0, 0] < found[20, 20, 20] < found[5, 5, 5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e35])
def test_what_cannot_be_normalised_raises(value):
    scan = np.ones((4, 4, 4), np.float32)
    scan[1, 1, 1] = value
    with pytest.raises(DataError, match="expected"):
        channel_scaling(scan, "zscore", None)
