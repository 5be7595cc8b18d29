"""Both labelling engines give scipy's partition, with static shapes and without retracing."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy import ndimage

from segpipe.losses import components

pytestmark = pytest.mark.jax

ENGINES = ("graph", "host")


def spiral(size):
    """A path one voxel wide from the corner to the middle: as far as a label can travel."""
    mask = np.zeros((size, size), bool)
    x, y, dx, dy, length = 0, 0, 0, 1, size - 1
    mask[0, 0] = True
    turns = 0
    while length > 0:
        for _ in range(length):
            x, y = x + dx, y + dy
            mask[x, y] = True
        dx, dy = dy, -dx
        turns += 1
        if turns > 1 and turns % 2:
            length -= 2
    return mask


def snake(size):
    """Rows joined at alternating ends, so that the path runs against the order of indices."""
    mask = np.zeros((size, size), bool)
    mask[::2] = True
    mask[1::4, -1] = True
    mask[3::4, 0] = True
    return mask


VOLUMES = {
    "empty": np.zeros((5, 6, 7), bool),
    "full": np.ones((7, 6, 5), bool),
    "one voxel": np.ones((1, 1, 1), bool),
    "checkerboard": np.indices((6, 7, 8)).sum(0) % 2 == 0,
    "apart": np.stack(np.meshgrid(*[np.arange(9) % 2 == 0] * 3), -1).all(-1),
    "corners touch": np.eye(6, dtype=bool)[:, :, None] & np.eye(6, dtype=bool)[:, None],
    "spiral": spiral(41)[None],
    "two spirals": np.stack([spiral(25), np.zeros((25, 25), bool), spiral(25)[::-1]]),
    "snake": snake(33)[:, None],
    "square": spiral(29),
    "snake in 2-D": snake(30),
    "row": np.array([[1, 1, 0, 1, 0, 0, 1]], bool),
}
VOLUMES |= {
    f"random {density}": np.random.default_rng(i).random((13, 12, 11)) < density
    for i, density in enumerate((0.02, 0.1, 0.3, 0.6, 0.95))
}


def expected(volume):
    """Labels by scipy: 1 + the last index of every component."""
    numbers, count = ndimage.label(volume, np.ones((3,) * volume.ndim))
    last = np.zeros(count + 1, int)
    np.maximum.at(last, numbers.ravel(), np.arange(volume.size) + 1)
    last[0] = 0
    return last[numbers]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", VOLUMES)
def test_labels_are_those_of_scipy(name, engine, compiled):
    volume = VOLUMES[name]
    mask = volume[None, ..., None]
    eager = np.asarray(components.label(ops.convert_to_tensor(mask), engine))
    np.testing.assert_array_equal(eager[0, ..., 0], expected(volume))
    assert eager.dtype == np.int32
    once = compiled(lambda m: components.label(m, engine))
    np.testing.assert_array_equal(np.asarray(once(mask)), eager)


@pytest.fixture(scope="module")
def labelling(compiled):
    return {engine: compiled(lambda m, e=engine: components.label(m, e)) for engine in ENGINES}


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(5, 6, 4), (7, 1, 2), (3, 3, 3), (6, 7), (2, 9)]),
    st.floats(0, 1),
)
def test_every_sample_and_channel_is_labelled_on_its_own(labelling, engine, seed, shape, density):
    mask = np.random.default_rng([7, seed]).random((3, *shape, 2)) < density
    got = np.asarray(labelling[engine](mask))
    for sample in range(3):
        for channel in range(2):
            np.testing.assert_array_equal(
                got[sample, ..., channel], expected(mask[sample, ..., channel])
            )


@pytest.mark.parametrize("engine", ENGINES)
def test_other_masks_of_one_shape_are_not_traced_again(engine, compiled):
    once = compiled(lambda m: components.label(m, engine))
    for density in (0.0, 0.1, 0.9):
        mask = np.random.default_rng(3).random((2, 6, 6, 6, 1)) < density
        np.testing.assert_array_equal(np.asarray(once(mask))[0, ..., 0], expected(mask[0, ..., 0]))
    assert once.traces == 1


def test_an_array_of_unknown_size_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"received \(None, None, 8, 1\)\. Give the model a fixed"):
        components.label(keras.KerasTensor((None, None, 8, 1), "bool"))


def test_sums_are_those_of_each_component_and_lie_in_its_sample():
    rng = np.random.default_rng(4)
    mask = rng.random((2, 5, 6, 4, 3)) < 0.3
    values = rng.random(mask.shape).astype(np.float32)
    labels = components.label(ops.convert_to_tensor(mask))
    ids = components.segments(labels)
    sums = np.asarray(components.sum_by(ids, ops.convert_to_tensor(values * mask)))
    found = sums.reshape(2, 3, 120)
    for sample in range(2):
        for channel in range(3):
            numbers = expected(mask[sample, ..., channel])
            for number in np.unique(numbers[numbers > 0]):
                inside = values[sample, ..., channel][numbers == number]
                assert found[sample, channel, number - 1] == pytest.approx(inside.sum(), rel=1e-5)
    whole = np.asarray(components.per_sample(ops.convert_to_tensor(sums), mask.shape))
    np.testing.assert_allclose(whole, (values * mask).sum((1, 2, 3, 4)), rtol=1e-5)


def test_background_shares_no_segment_with_anybody():
    mask = np.random.default_rng(5).random((2, 4, 4, 4, 2)) < 0.4
    ids = np.asarray(components.segments(components.label(ops.convert_to_tensor(mask))))
    ids = ids.reshape(mask.shape)
    numbers, counts = np.unique(ids, return_counts=True)
    assert (counts[np.isin(numbers, ids[~mask])] == 1).all()
    assert ids.min() >= 0
    assert ids.max() < mask.size


def test_components_that_reach_the_border_are_told_but_not_along_a_single_slice():
    mask = np.zeros((1, 1, 5, 5, 1), bool)
    mask[0, 0, 0, 1] = mask[0, 0, 1, 1] = True  # reaches the border
    mask[0, 0, 3, 3] = True  # does not, though it is in the only slice
    ids = components.segments(components.label(ops.convert_to_tensor(mask)))
    touched = np.asarray(components.touched_by_border(ids, mask.shape)).reshape(5, 5)
    last = {(1, 1): True, (3, 3): False}
    assert {place: bool(touched[place]) for place in last} == last
