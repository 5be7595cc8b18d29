"""Counts of predicted elements: the value of the hard count, the gradient of the soft one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from segpipe import losses

pytestmark = pytest.mark.jax

SHAPES = ((2, 3, 4, 5, 1), (3, 6, 5, 2), (2, 7, 1))


def probabilities(shape, seed=0):
    return np.random.default_rng([1, seed]).uniform(0.01, 0.99, shape)


def above(p, threshold):
    return (p > threshold).reshape(len(p), -1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.9])
def test_the_value_is_the_exact_share_and_number(shape, threshold, value):
    p = probabilities(shape)
    hard = above(p, threshold)
    for function in (losses.count_above_threshold, losses.hard_count):
        share = value(lambda t, f=function: f(t, threshold=threshold, fraction=True), p)
        np.testing.assert_allclose(share, hard.mean(1), rtol=1e-6, atol=1e-9)
        number = value(lambda t, f=function: f(t, threshold=threshold, fraction=False), p)
        np.testing.assert_allclose(number, hard.sum(1), rtol=1e-6, atol=1e-9)


def test_at_the_threshold_is_not_above_it():
    p = np.array([0.25, 0.5, 0.75], np.float32).reshape(1, 3, 1)
    assert float(losses.count_above_threshold(p, fraction=False)[0]) == 1
    assert float(losses.count_above_threshold(p, fraction=False, threshold=0.25)[0]) == 2
    z = np.array([-1.0, 0.0, 1.0], np.float32).reshape(1, 3, 1)
    assert float(losses.count_above_threshold(z, fraction=False, from_logits=True)[0]) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_the_soft_form_is_the_count_that_the_pipeline_trains_on(shape, value, oracle):
    p = probabilities(shape)
    z = np.log(p / (1 - p))
    weight = probabilities((*shape[:-1], 1), seed=1)
    rules = {"threshold": 0.6, "tau": 0.7, "delta": 1.5}
    expected = oracle.voxel_count(z, weight, **rules)
    count = {"form": "soft", "fraction": False, **rules}
    for prediction, from_logits in ((p, False), (z, True)):
        got = value(
            lambda *t, f=from_logits: losses.count_above_threshold(*t, from_logits=f, **count),
            prediction,
            weight,
        )
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    share = value(
        lambda *t: losses.count_above_threshold(*t, **count | {"fraction": True}), p, weight
    )
    whole = (weight * np.ones(shape)).reshape(shape[0], -1).sum(1)
    np.testing.assert_allclose(share, expected / whole, rtol=1e-6)


@pytest.mark.parametrize("fraction", [True, False])
def test_both_forms_have_the_gradient_of_the_soft_one(fraction, gradient, value):
    p = probabilities((1, 3, 4, 2))
    forms = {
        form: lambda t, f=form: losses.count_above_threshold(t, form=f, fraction=fraction)
        for form in ("soft", "straight_through")
    }
    slopes = {form: gradient(function, p) for form, function in forms.items()}
    np.testing.assert_array_equal(slopes["soft"], slopes["straight_through"])
    numeric = np.zeros_like(p)
    for index in np.ndindex(p.shape):
        step = np.zeros_like(p)
        step[index] = 1e-7
        up, down = (value(forms["soft"], p + s)[0] for s in (step, -step))
        numeric[index] = (up - down) / 2e-7
    assert np.abs(numeric).max() > 0.01
    np.testing.assert_allclose(slopes["soft"], numeric, rtol=1e-4, atol=1e-6)


def test_sure_elements_keep_their_gradient_and_the_far_background_has_none(gradient):
    z = np.array([-9.0, -2.1, -1.9, 0.0, 4.0, 30.0]).reshape(1, 6, 1)
    slope = gradient(
        lambda t: losses.count_above_threshold(t, from_logits=True, fraction=False), z
    )[0, :, 0]
    assert (slope[:2] == 0).all()
    assert (slope[2:] > 0).all()
    np.testing.assert_allclose(slope[4:], 1 / (0.5 * np.log(2)), rtol=1e-3)


def test_the_naive_count_has_no_gradient(gradient):
    p = probabilities((2, 5, 5, 1))
    slope = gradient(lambda t: losses.hard_count(t) + 0 * ops.sum(t), p)
    assert (slope == 0).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("masks", ["one", "each"])
def test_a_mask_limits_the_count_and_a_weight_map_weighs_it(channels, masks, value, gradient):
    p = probabilities((2, 4, 5, channels))
    rng = np.random.default_rng(4)
    mask = rng.random((2, 4, 5, 1 if masks == "one" else channels)) * (
        rng.random((2, 4, 5, 1)) < 0.5
    )
    target = np.concatenate([np.zeros_like(p), mask], axis=-1)
    whole = (mask * np.ones_like(p)).sum((1, 2, 3))
    inside = ((p > 0.5) * mask).sum((1, 2, 3))
    for arguments in ((target, p), (np.zeros_like(p), p, mask)):
        share = value(losses.masked_count, *arguments)
        np.testing.assert_allclose(share, inside / whole, rtol=1e-6)
        number = value(lambda *t: losses.masked_count(*t, fraction=False), *arguments)
        np.testing.assert_allclose(number, inside, rtol=1e-6)
    slope = gradient(lambda t: losses.masked_count(target, t), p)
    outside = np.broadcast_to(mask == 0, p.shape)
    assert (slope[outside] == 0).all()
    assert (slope[~outside & (p > 0.5)] > 0).all()


def test_an_empty_mask_counts_nothing_and_teaches_nothing(gradient):
    p = probabilities((2, 4, 1)).astype(np.float32)
    nothing = np.zeros_like(p)
    for form in ("soft", "straight_through"):
        for fraction in (True, False):
            settings = {"form": form, "fraction": fraction}
            count = losses.masked_count(None, ops.convert_to_tensor(p), nothing, **settings)
            assert np.asarray(count).tolist() == [0, 0]
            slope = gradient(lambda t, s=settings: losses.masked_count(None, t, nothing, **s), p)
            assert (slope == 0).all()


def test_nothing_above_the_threshold_is_0():
    p = np.full((2, 4, 1), 0.01, np.float32)
    assert np.asarray(losses.count_above_threshold(p)).tolist() == [0, 0]
    assert np.asarray(losses.count_above_threshold(p, form="soft")).tolist() == [0, 0]
    both = losses.count_plus_cross_entropy(np.zeros_like(p), p, count_weight=5.0, bce_weight=2.0)
    np.testing.assert_allclose(np.asarray(both), -2 * np.log(0.99), rtol=1e-4)


def test_a_missing_mask_is_named():
    p = np.zeros((2, 4, 4, 3), np.float32)
    with pytest.raises(
        ValueError, match=r"MaskedCount: mask is missing.*4 or 6 channels.*\(2, 4, 4, 3\)"
    ):
        losses.masked_count(p, p)
    with pytest.raises(ValueError, match="MaskedCount: the channels do not fit"):
        losses.masked_count(np.zeros((2, 4, 4, 5)), p)
    with pytest.raises(ValueError, match=r"mask does not fit.*received \(2, 4, 3, 1\)"):
        losses.masked_count(p, p, np.zeros((2, 4, 3, 1)))
    with pytest.raises(ValueError, match="mask does not fit"):
        losses.masked_count(p, p, np.zeros((2, 4, 4)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 0.95), st.floats(0, 3), st.floats(0, 3))
def test_count_plus_cross_entropy_is_their_weighted_sum(seed, threshold, count_weight, bce_weight):
    p = probabilities((2, 3, 4, 2), seed).astype(np.float32)
    y = (np.random.default_rng(seed).random(p.shape) < 0.5).astype(np.float32)
    arguments = {"threshold": threshold, "count_weight": count_weight, "bce_weight": bce_weight}
    got = np.asarray(losses.count_plus_cross_entropy(y, p, **arguments))
    bce = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean((1, 2, 3))
    expected = count_weight * (p > threshold).mean((1, 2, 3)) + bce_weight * bce
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_cross_entropy_of_sure_logits_is_exact():
    z = np.array([200.0, -200.0]).reshape(1, 2, 1).astype(np.float32)
    y = np.array([0.0, 0.0]).reshape(1, 2, 1).astype(np.float32)
    got = losses.count_plus_cross_entropy(y, z, count_weight=0.0, from_logits=True)
    assert float(got[0]) == 100.0


def test_a_reference_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="CountPlusCrossEntropy: the channels do not fit"):
        losses.count_plus_cross_entropy(np.zeros((1, 4, 2)), np.zeros((1, 4, 1)))


@pytest.mark.parametrize("shape", [(1, 8, 8, 1), (4, 1, 8, 1), (8, 1), (4, 8, 8, 8, 1)])
def test_a_reference_is_never_spread_over_the_prediction(shape):
    reference, prediction = np.zeros(shape), np.zeros((4, 8, 8, 1))
    for loss in (
        losses.CountPlusCrossEntropy(),
        losses.ThresholdedMeanAbsoluteError(),
        losses.FilteredLoss([("prediction", ">", 0.5)]),
        losses.VoxelCount(),
    ):
        with pytest.raises(ValueError, match="reference does not fit"):
            loss(reference, prediction)


def test_the_hard_value_is_exact_where_the_soft_one_is_many_times_larger():
    p = np.full((1, 128, 128, 128, 1), 1 - 6e-6, np.float32)
    p[0, 0, 0, 0] = 0.1
    assert int(losses.count_above_threshold(p, fraction=False)[0]) == 128**3 - 1


def test_half_precision_is_summed_in_single():
    p = probabilities((1, 40, 40, 40, 1)).astype(np.float16)
    number = np.asarray(losses.count_above_threshold(p, fraction=False))
    assert number.dtype == np.float32
    assert number[0] == (p > 0.5).sum()  # no float16 holds it
    assert number[0] > 30000
