"""Means over selected elements against NumPy's own selection by boolean index."""

import json
import operator

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from segpipe import losses

pytestmark = pytest.mark.jax

RELATIONS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


def squared(y, p):
    return (y - p) ** 2


def scene(seed, shape=(3, 4, 5, 2)):
    rng = np.random.default_rng([3, seed])
    p = rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], shape).astype(np.float32)
    y = (rng.random(shape) < 0.4).astype(np.float32)
    return y, p, rng.random((*shape[:-1], 1)).astype(np.float32)


def chosen_mean(values, selected, sample):
    inside = values[sample][selected[sample]]
    return inside.mean() if inside.size else 0.0


def test_masked_squared_error_is_the_mean_over_the_mask(value):
    y, p, weight = scene(0)
    mask = (weight > 0.5).astype(np.float32)
    mask[2] = 0
    whole = np.broadcast_to(mask > 0, p.shape)
    expected = [chosen_mean(squared(y, p), whole, b) for b in range(3)]
    for arguments in ((np.concatenate([y, mask], axis=-1), p), (y, p, mask)):
        got = value(losses.masked_mean_squared_error, *arguments)
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert got[2] == 0
    soft = value(losses.masked_mean_squared_error, y, p, weight)
    by_weight = [np.average(squared(y, p)[b], weights=weight[b] + 0 * p[b]) for b in range(3)]
    np.testing.assert_allclose(soft, by_weight, rtol=1e-5)


def test_masked_squared_error_of_logits_is_that_of_their_probabilities(value):
    y, _, mask = scene(1)
    z = np.random.default_rng(5).normal(0, 2, y.shape)
    p = 1 / (1 + np.exp(-z))
    of_logits = value(lambda *t: losses.masked_mean_squared_error(*t, from_logits=True), y, z, mask)
    np.testing.assert_allclose(
        of_logits, value(losses.masked_mean_squared_error, y, p, mask), rtol=1e-6
    )


def test_what_lies_outside_the_mask_has_no_influence(gradient):
    y, p, weight = scene(2)
    mask = (weight > 0.5).astype(np.float32)
    outside = np.broadcast_to(mask == 0, p.shape)
    clean = np.asarray(losses.masked_mean_squared_error(y, p, mask))
    slope = gradient(lambda t: losses.masked_mean_squared_error(y, t, mask), p)
    other = np.where(outside, y + 1e3, y)
    np.testing.assert_array_equal(
        np.asarray(losses.masked_mean_squared_error(other, p, mask)), clean
    )
    assert (slope[outside] == 0).all()
    assert (slope[~outside & (y != p)] != 0).all()


def test_empty_selections_are_0_with_gradient_0(gradient):
    y, p, _ = scene(3)
    functions = [
        lambda t: losses.masked_mean_squared_error(y, t, np.zeros_like(p)),
        lambda t: losses.thresholded_mean_absolute_error(y, 0.2 * t),
        lambda t: losses.filtered_loss(y, t, conditions=[("prediction", ">", 2.0)], base=squared),
    ]
    for function in functions:
        assert np.asarray(function(ops.convert_to_tensor(p))).tolist() == [0, 0, 0]
        assert (gradient(function, p) == 0).all()


@pytest.mark.parametrize("threshold", [0.25, 0.6])
def test_absolute_error_is_the_mean_above_the_threshold(threshold, value, gradient):
    y, p, _ = scene(4)
    p = 0.05 + 0.9 * p  # |y − p| has no gradient at 0
    got = value(lambda *t: losses.thresholded_mean_absolute_error(*t, threshold=threshold), y, p)
    expected = [chosen_mean(np.abs(y - p), p > threshold, b) for b in range(3)]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    slope = gradient(lambda t: losses.thresholded_mean_absolute_error(y, t, threshold=threshold), p)
    for b in range(3):
        expected = np.sign(p[b] - y[b]) * (p[b] > threshold) / (p[b] > threshold).sum()
        np.testing.assert_allclose(slope[b], expected, rtol=1e-5)


conditions = st.lists(
    st.tuples(
        st.sampled_from(["prediction", "reference", "confidence", "age"]),
        st.sampled_from(sorted(RELATIONS)),
        st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    ),
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), conditions, st.booleans(), st.booleans())
def test_filtered_loss_is_the_mean_over_what_meets_all_conditions(
    seed, conditions, weighted, weight_in_mean
):
    y, p, confidence = scene(seed)
    rng = np.random.default_rng(seed)
    further = {
        "confidence": confidence,
        "age": rng.choice([0.0, 0.5, 1.0], p.shape).astype(np.float32),
        "importance": rng.uniform(0.5, 3.0, p.shape).astype(np.float32),
    }
    got = losses.filtered_loss(
        y,
        p,
        conditions=conditions,
        base=squared,
        further=further,
        weight="importance" if weighted else None,
        weight_in_mean=weight_in_mean,
    )
    tensors = {"prediction": p, "reference": y, **further}
    selected = np.ones(p.shape, bool)
    for name, relation, limit in conditions:
        selected &= RELATIONS[relation](tensors[name] + 0 * p, limit)
    weight = further["importance"] if weighted else np.ones_like(p)
    for b in range(3):
        inside = selected[b]
        total = (squared(y, p) * weight)[b][inside].sum()
        whole = weight[b][inside].sum() if weight_in_mean else inside.sum()
        expected = total / whole if inside.any() else 0.0
        assert float(got[b]) == pytest.approx(expected, rel=1e-4)


BASES = {
    "mean_squared_error": lambda y, p: (y - p) ** 2,
    "mean_absolute_error": lambda y, p: np.abs(y - p),
    "binary_crossentropy": lambda y, p: -(y * np.log(p) + (1 - y) * np.log(1 - p)),
}


@pytest.mark.parametrize("name", BASES)
def test_losses_of_keras_are_taken_element_by_element(name):
    y, p, _ = scene(6)
    p = 0.1 + 0.8 * p
    selected = p > 0.4
    expected = [chosen_mean(BASES[name](y, p), selected, b) for b in range(3)]
    function = keras.losses.get(name)
    instances = [function, lambda y, p: BASES["mean_squared_error"](y, p)]
    if name == "binary_crossentropy":
        instances = [function, keras.losses.BinaryCrossentropy(reduction="none")]
    got = [
        np.asarray(losses.filtered_loss(y, p, conditions=[("prediction", ">", 0.4)], base=base))
        for base in instances
    ]
    np.testing.assert_allclose(got[0], expected, rtol=1e-4)
    if name != "mean_absolute_error":
        np.testing.assert_allclose(got[1], expected, rtol=1e-4)


def test_conditions_on_logits_see_probabilities_and_the_base_sees_logits():
    z = np.array([-1.0, 0.1, 3.0], np.float32).reshape(1, 3, 1)
    y = np.zeros_like(z)
    got = losses.filtered_loss(
        y,
        z,
        conditions=[("prediction", ">", 0.5)],
        base=keras.losses.BinaryCrossentropy(from_logits=True, reduction="none"),
        from_logits=True,
    )
    assert float(got[0]) == pytest.approx(np.logaddexp(0, [0.1, 3.0]).mean(), rel=1e-5)


@pytest.mark.parametrize("base", ["binary_crossentropy", keras.losses.binary_crossentropy])
def test_a_function_of_keras_is_given_the_probabilities_of_logits(base, gradient):
    z = np.array([-2.0, 3.0], np.float32).reshape(1, 2, 1)
    y = np.ones_like(z)
    loss = losses.FilteredLoss([], base, from_logits=True)
    assert float(loss(y, z)) == pytest.approx(np.logaddexp(0, [2.0, -3.0]).mean(), rel=1e-5)
    slope = gradient(lambda t: loss.call(y, t), z)  # none is clipped
    np.testing.assert_allclose(slope, (1 / (1 + np.exp(-z)) - 1) / 2, rtol=1e-4)


@pytest.mark.parametrize(
    "base",
    [
        "categorical_crossentropy",
        "cosine_similarity",
        keras.losses.CategoricalCrossentropy(reduction="none"),
    ],
)
def test_losses_that_work_across_classes_are_refused(base):
    with pytest.raises(ValueError, match="works across classes"):
        losses.FilteredLoss([("prediction", ">", 0.5)], base)


@pytest.mark.parametrize(
    "base", [lambda y, p: 1e-5 * ops.square(y - p), lambda y, p: ops.relu(p - 0.95) + 0 * y]
)
def test_small_and_mostly_flat_losses_are_losses_of_an_element(base):
    y, p = np.array([[0.0, 1.0]], np.float32), np.array([[0.7, 0.97]], np.float32)
    expected = np.asarray(base(y, ops.convert_to_tensor(p))).mean()
    assert float(losses.FilteredLoss([], base)(y, p)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("base", ["sparse_categorical_crossentropy", "circle"])
def test_losses_that_no_element_has_by_itself_are_refused(base):
    with pytest.raises(ValueError, match="FilteredLoss: base"):
        losses.FilteredLoss([], base)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"conditions": ("prediction", ">", 0.5)}, "conditions: expected a list of triples"),
        ({"conditions": [("mask", ">", 0.5)], "further": "mask"}, "further: expected a list of"),
    ],
)
def test_slips_are_told(arguments, said):
    with pytest.raises(ValueError, match=said):
        losses.FilteredLoss(**arguments)


def test_the_gradient_stays_with_what_is_selected_and_conditions_carry_none(gradient):
    y, p, _ = scene(7)
    p = p.astype(float) + 0.01
    rules = [("prediction", ">", 0.4), ("reference", "==", 0.0)]
    slope = gradient(lambda t: losses.filtered_loss(y, t, conditions=rules, base=squared), p)
    selected = (p > 0.4) & (y == 0)
    for b in range(3):
        expected = 2 * (p - y)[b] * selected[b] / selected[b].sum()
        np.testing.assert_allclose(slope[b], expected, rtol=1e-6)
    again = gradient(
        lambda t: losses.filtered_loss(
            np.where(selected, y, 7.0).astype(float),
            t,
            conditions=[("prediction", ">", 0.4), ("kept", ">", 0.5)],
            base=squared,
            further={"kept": ops.convert_to_tensor(selected.astype(float))},
        ),
        p,
    )
    np.testing.assert_array_equal(again, slope)


def test_a_loss_that_is_symmetric_in_the_prediction_is_taken():
    loss = losses.FilteredLoss(
        [("prediction", ">", np.float64(0.5))], lambda y, p: ops.square(p - 0.5)
    )
    prediction = np.array([0.2, 0.6, 0.9]).reshape(1, 3, 1)
    assert float(loss(np.zeros((1, 3, 1)), prediction)) == pytest.approx((0.01 + 0.16) / 2)
    assert json.dumps(loss.conditions)


@pytest.mark.parametrize("further", [["reference"], ["a", "a"]])
def test_no_two_tensors_have_one_name(further):
    with pytest.raises(ValueError, match="further: expected names that differ"):
        losses.FilteredLoss([("prediction", ">", 0.5)], further=further)


def test_what_cannot_be_computed_is_named():
    y, p, _ = scene(8)
    with pytest.raises(ValueError, match=r"confidence is missing.*received reference, prediction"):
        losses.filtered_loss(y, p, conditions=[("confidence", ">", 0)], base=squared)
    with pytest.raises(ValueError, match="importance is missing"):
        losses.filtered_loss(y, p, conditions=[], base=squared, weight="importance")
    with pytest.raises(ValueError, match=r"base is not elementwise.*reduction='none'"):
        losses.filtered_loss(y, p, conditions=[], base=keras.losses.MeanSquaredError())
    with pytest.raises(ValueError, match="confidence does not fit"):
        losses.filtered_loss(y, p, conditions=[], base=squared, further={"confidence": y[:, :2]})
    with pytest.raises(ValueError, match="MaskedMeanSquaredError: mask is missing"):
        losses.masked_mean_squared_error(y, p)
    with pytest.raises(ValueError, match="ThresholdedMeanAbsoluteError: the channels do not fit"):
        losses.thresholded_mean_absolute_error(np.concatenate([y, y], -1), p)
