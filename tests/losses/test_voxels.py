"""The voxel count against float64 NumPy, its bounds, and the naive count that teaches nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy import special

from segpipe.losses import odds, voxels

pytestmark = pytest.mark.jax

SETTINGS = {"threshold": 0.5, "tau": 0.5, "delta": 2.0}
OTHER = {"threshold": 0.7, "tau": 1.0, "delta": 0.0}
SHAPES = ((2, 3, 4, 5, 1), (2, 6, 7, 1), (2, 3, 4, 2, 3))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rules", [SETTINGS, OTHER])
def test_count_equals_the_written_formula(shape, rules, value, oracle):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, shape)
    weight = rng.random((*shape[:-1], 1))
    got = value(lambda *t: voxels.voxel_count(*t, **rules), z, weight)
    np.testing.assert_allclose(got, oracle.voxel_count(z, weight, **rules), rtol=1e-12)
    narrow = value(lambda *t: voxels.voxel_count(*t, **rules), z.astype(np.float16), weight)
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, got, rtol=1e-2)


def test_a_voxel_at_the_threshold_counts_one():
    z = np.zeros((1, 2, 2, 1), np.float32)
    weight = np.array([1, 0, 0, 2], np.float32).reshape(1, 2, 2, 1)
    assert float(voxels.voxel_count(z, weight, **SETTINGS)[0]) == pytest.approx(3.0)


def test_bounds_the_hard_count_from_above():
    rng = np.random.default_rng(1)
    for _ in range(20):
        z = rng.normal(0, 4, (3, 6, 6, 6, 2)).astype(np.float32)
        weight = rng.random((3, 6, 6, 6, 1)).astype(np.float32)
        hard = ops.convert_to_numpy(voxels.hard_voxel_count(z, weight, threshold=0.5))
        soft = ops.convert_to_numpy(voxels.voxel_count(z, weight, **SETTINGS))
        assert (soft >= hard - 1e-3).all()


def test_far_background_stays_out_of_the_count():
    z = np.full((1, 32, 32, 32, 1), -8.0, np.float32)
    weight = np.ones_like(z)
    assert float(voxels.voxel_count(z, weight, **SETTINGS)[0]) == 0.0


@pytest.mark.parametrize(("tau", "phantoms"), [(1.0, 1015), (0.5, 0.34)])
def test_without_the_gate_far_background_would_count(tau, phantoms):
    z = np.full((1, 16, 16, 16, 1), -8.0, np.float32)
    open_gate = {"threshold": 0.5, "tau": tau, "delta": 100.0}
    count = float(voxels.voxel_count(z, np.ones_like(z), **open_gate)[0])
    assert count * 8**3 == pytest.approx(phantoms, rel=0.01)  # in 128³


@pytest.fixture(scope="module")
def norm(gradient_of):
    """L1 norm of the penalty's gradient, by τ."""
    calls = {
        tau: gradient_of(
            lambda z, weight, budget, t=tau: voxels.voxel_count_penalty(
                z, weight, threshold=0.5, tau=t, delta=2.0, budget=budget
            )
        )
        for tau in (0.25, 0.5, 1.0)
    }
    return lambda tau, *arrays: np.abs(calls[tau](*[np.asarray(a, float) for a in arrays])).sum()


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([0.25, 0.5, 1.0]),
    st.integers(0, 10**6),
    st.floats(-3, 40),
    st.floats(0, 20),
    st.floats(-2, 6),
    st.floats(-1, 2),
)
def test_gradient_norm_stays_below_one_over_tau(norm, tau, seed, centre, spread, scale, budget):
    rng = np.random.default_rng([2, seed])
    z = rng.normal(centre, spread, (1, 200, 1))
    assert norm(tau, z, rng.random(z.shape) * 10**scale, 10**budget) < 1 / tau


@pytest.mark.parametrize("tau", [0.25, 0.5, 1.0])
def test_gradient_norm_of_adversarial_volumes_comes_near_and_stays_below(norm, tau):
    """Worst are many voxels just above the gate: there σ/log(1+exp) is nearest to 1."""
    heavy = np.full((1, 200, 1), 1e9)
    norms = [norm(tau, np.full(heavy.shape, z), heavy, 1.0) for z in (-2 + 1e-9, 0, 1, 30, 300)]
    assert max(norms) < 1 / tau
    assert norms == sorted(norms, reverse=True)
    assert norms[0] > 0.93 / tau or tau == 1.0
    assert norm(tau, np.full(heavy.shape, -2.1), heavy, 1.0) == 0


@pytest.mark.parametrize("rules", [SETTINGS, OTHER])
def test_gradient_agrees_with_finite_differences(rules, gradient, oracle):
    rng = np.random.default_rng(6)
    z = rng.normal(0, 3, (1, 4, 3, 2, 2))
    weight = rng.random((1, 4, 3, 2, 1)) * 2

    def exact(moved):
        return np.log1p(oracle.voxel_count(moved, weight, **rules, frozen=z)[0] / 7.0)

    slope = gradient(lambda t: voxels.voxel_count_penalty(t, weight, **rules, budget=7.0), z)
    numeric = np.zeros_like(z)
    for index in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[index] = 1e-5
        numeric[index] = (exact(z + step) - exact(z - step)) / 2e-5
    assert np.abs(slope).max() > 0.01
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-10)


def test_protected_voxels_get_exactly_no_gradient(gradient):
    z = np.full((1, 4, 4, 1), 5.0, np.float32)
    weight = np.ones_like(z)
    weight[0, :2] = 0
    slope = gradient(lambda t: voxels.voxel_count_penalty(t, weight, **SETTINGS, budget=1.0), z)
    assert (slope[0, :2] == 0).all()
    assert (slope[0, 2:] > 0).all()


def test_the_naive_count_teaches_nothing(gradient):
    z = np.random.default_rng(3).normal(0, 3, (1, 50, 1)).astype(np.float32)
    slope = gradient(
        lambda t: voxels.hard_voxel_count(t, np.ones_like(z), threshold=0.5) + 0 * ops.sum(t), z
    )
    assert (slope == 0).all()


def test_log_odds_invert_the_softmax():
    logits = np.random.default_rng(4).normal(0, 2, (2, 5, 5, 4)).astype(np.float32)
    probability = ops.convert_to_numpy(ops.softmax(logits))[..., 1:]
    z = ops.convert_to_numpy(odds.log_odds(logits))
    np.testing.assert_allclose(1 / (1 + np.exp(-z)), probability, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 5, 33])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])  # 0: all classes are as likely
def test_log_odds_and_their_gradient_are_exact_however_sure_the_network_is(
    classes, scale, gradient
):
    logits = np.random.default_rng(5).normal(0, scale, (40, 3, classes)).astype(np.float32)
    exact = logits.astype(np.float64)
    odds_of, slopes = [], []
    for c in range(1, classes):
        others = np.delete(exact, c, axis=-1)
        odds_of.append(exact[..., c] - special.logsumexp(others, axis=-1))
        shares = special.softmax(others, axis=-1)  # d z_c / d the others is minus these
        slopes.append(np.insert(-shares, c, 1.0, axis=-1))
    z = ops.convert_to_numpy(odds.log_odds(logits))
    np.testing.assert_allclose(z, np.stack(odds_of, axis=-1), rtol=2e-5, atol=2e-5)
    weights = np.random.default_rng(6).normal(size=z.shape).astype(np.float32)
    found = gradient(lambda t: ops.sum(odds.log_odds(t) * weights, axis=(1, 2)), logits)
    expected = np.einsum("bxk,kbxc->bxc", weights, np.stack(slopes))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
