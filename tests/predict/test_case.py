"""From a scan to the mean over the members, on the scan's own grid."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import special

from segpipe.predict.case import Model, member_probabilities, predict_scan
from segpipe.predict.uncertainty import Spread
from segpipe.prepare import PreparePlan
from segpipe.volume import Volume

PLAN = PreparePlan(
    spacing_mm=(1, 1, 1), normalise="none", channels=("t1",), labels={"a": 1}, crop=False
)
IMAGE = Volume(
    np.random.default_rng(0).random((6, 5, 4, 1)).astype(np.float32), np.diag([-1.0, 1, 1, 1])
)  # stored from right to left


def model(engine, mirror_axes=(), slice_axis=None):
    patch = (4, 4, 4) if slice_axis is None else (4, 4)
    config = SimpleNamespace(train=SimpleNamespace(patch=patch))
    bundle = SimpleNamespace(plan=PLAN, config=config, slice_axis=slice_axis)
    return Model(bundle, engine, 0.5, 1, mirror_axes)


def constant(probability):
    return lambda stack: np.full_like(stack, special.logit(probability))


def slope(stack):
    """A logit that rises along the first axis of a tile, whatever the image."""
    rise = np.linspace(-2, 2, stack.shape[1], dtype=np.float32).reshape(-1, 1, 1, 1)
    return np.broadcast_to(rise, stack.shape).copy()


def test_models_are_averaged_as_probabilities():
    made = predict_scan(IMAGE, [model(constant(0.1)), model(constant(0.1)), model(constant(0.7))])
    np.testing.assert_allclose(made.array, 0.3, atol=1e-6)  # the mean of logits would give 0.23
    assert made.array.shape == (6, 5, 4, 1)


def test_every_model_is_asked_under_every_mirroring():
    asked = []

    def engine(stack):
        asked.append(stack.shape)
        return stack

    models = [model(engine, ("R", "S")), model(engine)]
    assert len(list(member_probabilities(IMAGE, models))) == 4 + 1
    assert [len(one.members) for one in models] == [4, 1]
    tiles = len(asked) // 5
    assert len(asked) == 5 * tiles > 5


def test_mirrored_copies_are_averaged_where_they_lie_in_the_scan():
    plain = predict_scan(IMAGE, [model(slope)]).array
    both = predict_scan(IMAGE, [model(slope, ("R",))]).array
    members = list(member_probabilities(IMAGE, [model(slope, ("R",))]))
    np.testing.assert_array_equal(members[0], plain)
    np.testing.assert_allclose(members[1], plain[::-1], atol=1e-6)
    np.testing.assert_allclose(both, (plain + plain[::-1]) / 2, atol=1e-6)
    assert np.ptp(plain) > 0.5


@pytest.mark.parametrize("axes", list(itertools.combinations("RAS", 2)))
def test_a_network_that_does_not_mind_mirroring_predicts_the_same_with_it(axes):
    plain = predict_scan(IMAGE, [model(np.negative)])
    mirrored = predict_scan(IMAGE, [model(np.negative, axes)])
    np.testing.assert_array_equal(mirrored.array, plain.array)


def test_slices_of_a_2d_network_are_not_asked_twice_for_their_order():
    flat = model(np.negative, ("R", "A", "S"), slice_axis=2)
    assert flat.members == [(), (0,), (1,), (0, 1)]
    mirrored = predict_scan(IMAGE, [flat])
    plain = predict_scan(IMAGE, [model(np.negative, slice_axis=2)])
    np.testing.assert_array_equal(mirrored.array, plain.array)


def test_looking_at_the_spread_changes_nothing():
    models = [model(slope, ("R",)), model(constant(0.4))]
    spread = Spread(0.5)
    seen = predict_scan(IMAGE, models, spread)
    np.testing.assert_array_equal(seen.array, predict_scan(IMAGE, models).array)
    members = np.array(list(member_probabilities(IMAGE, models)))
    made = spread.uncertainty(seen.array)
    np.testing.assert_allclose(made.std, members.std(axis=0), atol=1e-6)
    assert len(made.found) == 3
