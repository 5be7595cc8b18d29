import math

import numpy as np
import pytest
from keras import ops

from segpipe.losses import counting, odds

SETTINGS = {"threshold": 0.5, "tau": 0.5, "delta": 2.0}


def reference_count(z, weight, threshold, tau, delta):
    z_t = math.log(threshold / (1 - threshold))
    total = np.zeros(len(z))
    for index in np.ndindex(z.shape):
        if z[index] > z_t - delta:
            w = float(weight[(*index[:-1], 0)])
            total[index[0]] += w * math.log2(1 + math.exp((float(z[index]) - z_t) / tau))
    return total


def test_count_equals_the_written_formula():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, (2, 3, 4, 5, 1)).astype(np.float32)
    weight = rng.random((2, 3, 4, 5, 1)).astype(np.float32)
    for settings in (SETTINGS, {"threshold": 0.7, "tau": 1.0, "delta": 0.0}):
        got = ops.convert_to_numpy(counting.voxel_count(z, weight, **settings))
        np.testing.assert_allclose(got, reference_count(z, weight, **settings), rtol=1e-5)


def test_a_voxel_at_the_threshold_counts_one():
    z = np.zeros((1, 2, 2, 1), np.float32)
    weight = np.array([1, 0, 0, 2], np.float32).reshape(1, 2, 2, 1)
    assert float(counting.voxel_count(z, weight, **SETTINGS)[0]) == pytest.approx(3.0)


def test_bounds_the_hard_count_from_above():
    rng = np.random.default_rng(1)
    for _ in range(20):
        z = rng.normal(0, 4, (3, 6, 6, 6, 2)).astype(np.float32)
        weight = rng.random((3, 6, 6, 6, 1)).astype(np.float32)
        hard = ops.convert_to_numpy(counting.hard_voxel_count(z, weight, threshold=0.5))
        soft = ops.convert_to_numpy(counting.voxel_count(z, weight, **SETTINGS))
        assert (soft >= hard - 1e-3).all()


def test_far_background_stays_out_of_the_count():
    z = np.full((1, 32, 32, 32, 1), -8.0, np.float32)
    weight = np.ones_like(z)
    assert float(counting.voxel_count(z, weight, **SETTINGS)[0]) == 0.0


@pytest.mark.parametrize("tau", [0.25, 0.5, 1.0])
def test_gradient_norm_stays_below_one_over_tau(tau, gradient):
    rng = np.random.default_rng(2)
    worst = 0.0
    for _ in range(60):
        z = rng.normal(rng.uniform(-3, 12), rng.uniform(0.1, 6), (1, 200, 1)).astype(np.float32)
        weight = rng.random(z.shape).astype(np.float32) * 10 ** rng.uniform(-2, 4)
        slope = gradient(
            lambda t, w=weight: counting.voxel_count_penalty(
                t, w, threshold=0.5, tau=tau, delta=2.0, budget=10 ** rng.uniform(-1, 2)
            ),
            z,
        )
        worst = max(worst, float(np.abs(slope).sum()))
    assert 0.1 / tau < worst < 1 / tau


def test_gradient_agrees_with_finite_differences(gradient):
    z = np.linspace(-1.9, 5.0, 12).reshape(1, 12, 1).astype(np.float32)
    weight = np.linspace(0.1, 2.0, 12).reshape(1, 12, 1).astype(np.float32)

    def exact(values):
        return math.log1p(reference_count(values, weight, **SETTINGS)[0] / 7.0)

    slope = gradient(lambda t: counting.voxel_count_penalty(t, weight, **SETTINGS, budget=7.0), z)
    for i in range(12):
        step = np.zeros(z.shape)
        step[0, i, 0] = 1e-4
        numeric = (exact(z + step) - exact(z - step)) / 2e-4
        assert slope[0, i, 0] == pytest.approx(numeric, rel=1e-3)


def test_protected_voxels_get_exactly_no_gradient(gradient):
    z = np.full((1, 4, 4, 1), 5.0, np.float32)
    weight = np.ones_like(z)
    weight[0, :2] = 0
    slope = gradient(lambda t: counting.voxel_count_penalty(t, weight, **SETTINGS, budget=1.0), z)
    assert (slope[0, :2] == 0).all()
    assert (slope[0, 2:] > 0).all()


def test_the_naive_count_teaches_nothing(gradient):
    z = np.random.default_rng(3).normal(0, 3, (1, 50, 1)).astype(np.float32)
    slope = gradient(
        lambda t: counting.hard_voxel_count(t, np.ones_like(z), threshold=0.5) + 0 * ops.sum(t), z
    )
    assert (slope == 0).all()


def test_log_odds_invert_the_softmax():
    logits = np.random.default_rng(4).normal(0, 2, (2, 5, 5, 4)).astype(np.float32)
    probability = ops.convert_to_numpy(ops.softmax(logits))[..., 1:]
    z = ops.convert_to_numpy(odds.log_odds(logits))
    np.testing.assert_allclose(1 / (1 + np.exp(-z)), probability, atol=1e-6)
