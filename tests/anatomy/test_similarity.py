import numpy as np
import pytest

from segpipe.anatomy.similarity import contrast_at, fit_at, shared_information
from segpipe.volume import Volume


def test_shared_information_equals_a_table_worked_out_by_hand():
    a = np.array([0.0] * 4 + [1.0] * 4)
    b = np.array([0.0, 0, 0, 1, 1, 1, 1, 0])
    joint = np.array([[3, 1], [1, 3]]) / 8
    expected = (joint * np.log(joint / 0.25)).sum() / np.log(2)
    assert shared_information(a, b, bins=2) == pytest.approx(expected)


def test_one_image_that_decides_the_other_shares_everything():
    a = np.random.default_rng(0).integers(0, 8, 1000).astype(float)
    assert shared_information(a, (3 * a + 5) % 8, bins=8) == pytest.approx(1)


def test_independent_images_share_next_to_nothing():
    rng = np.random.default_rng(1)
    assert 0 <= shared_information(rng.random(200_000), rng.random(200_000)) < 0.003


def test_constant_and_missing_images_share_nothing_that_is_defined():
    assert np.isnan(shared_information(np.ones(9), np.arange(9.0)))
    assert np.isnan(shared_information(np.zeros(0), np.zeros(0)))


@pytest.fixture
def pattern():
    rng = np.random.default_rng(2)
    affine = np.diag([8.0, 8, 8, 1])
    affine[:3, 3] = [-80, -100, -80]
    return Volume(rng.random((20, 20, 20), np.float32), affine)


def test_fit_counts_only_what_the_scan_sees(pattern):
    mask = np.zeros(pattern.shape, bool)
    mask[4:16, 4:16, 4:16] = True
    half = Volume(pattern.array[:10], pattern.affine)
    similarity, seen = fit_at(pattern, mask, half, np.eye(4))
    assert seen == pytest.approx(0.5)
    assert similarity == pytest.approx(1)
    assert fit_at(pattern, mask, pattern, np.eye(4)) == (pytest.approx(1), 1)
    away = np.eye(4)
    away[0, 3] = 1e4
    similarity, seen = fit_at(pattern, mask, pattern, away)
    assert np.isnan(similarity)
    assert seen == 0


def test_contrast_is_high_in_the_right_place_and_one_in_no_place(pattern):
    mask = np.ones(pattern.shape, bool)
    assert contrast_at(pattern, mask, pattern, np.eye(4)) > 5
    noise = pattern.with_array(np.random.default_rng(3).random(pattern.shape, np.float32))
    assert contrast_at(pattern, mask, noise, np.eye(4)) < 1.5


def test_contrast_of_what_is_as_good_upside_down_is_one(pattern):
    """A ball fits by its outline alone."""
    index = np.indices(pattern.shape)
    world = index * 8.0 + pattern.affine[:3, 3].reshape(3, 1, 1, 1)
    centre = np.array([0.0, -18, 5]).reshape(3, 1, 1, 1)
    ball = pattern.with_array((np.linalg.norm(world - centre, axis=0) < 50).astype(np.float32))
    assert contrast_at(ball, np.ones(ball.shape, bool), ball, np.eye(4)) == pytest.approx(1, 0.1)
