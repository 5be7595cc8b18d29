import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.predict.tiles import gaussian_weights, tile_starts, tiles
from segpipe.predict.window import foreground_probabilities, predict_volume


@given(st.integers(1, 60), st.integers(1, 20), st.floats(0, 0.9))
def test_tiles_cover_every_voxel_and_overlap_enough(length, tile, overlap):
    tile = min(tile, length)
    starts = tile_starts(length, tile, overlap)
    covered = np.zeros(length, int)
    for start in starts:
        covered[start : start + tile] += 1
    assert starts[0] == 0
    assert starts[-1] == length - tile
    assert covered.min() >= 1
    assert all(b - a <= max(1, int(tile * (1 - overlap))) for a, b in itertools.pairwise(starts))


@given(st.tuples(*[st.integers(1, 14)] * 3), st.tuples(*[st.integers(1, 8)] * 3), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_stitching_a_local_function_gives_the_function_of_the_whole(shape, patch, batch):
    image = np.random.default_rng(0).normal(size=(*shape, 1)).astype(np.float32)
    seen = []

    def engine(stack):
        seen.append(stack.shape)
        return 2 * stack + 1

    got = predict_volume(image, engine, patch=patch, overlap=0.5, batch=batch)
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-(2 * image + 1))), rtol=1e-4)
    assert set(seen) == {(batch, *patch, 1)}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_predicted_as_slices(axis):
    image = np.random.default_rng(0).normal(size=(7, 9, 8, 2)).astype(np.float32)

    def engine(stack):
        assert stack.shape == (3, 6, 6, 2)
        return stack[..., :1] - stack[..., 1:]

    got = predict_volume(image, engine, patch=(6, 6), overlap=0.5, batch=3, slice_axis=axis)
    expected = 1 / (1 + np.exp(image[..., 1:] - image[..., :1]))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_gaussian_is_symmetric_and_never_silent():
    weights = gaussian_weights((8, 5, 1))
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])
    assert weights.max() == weights[3, 2, 0] == weights[4, 2, 0]
    assert weights.min() == pytest.approx(1e-3)


def test_softmax_drops_the_background():
    logits = np.log(np.array([[0.2, 0.3, 0.5]], np.float32))
    np.testing.assert_allclose(foreground_probabilities(logits), [[0.3, 0.5]], rtol=1e-6)


def test_tiles_have_one_shape():
    assert {tuple(s.stop - s.start for s in box) for box in tiles((9, 5, 4), (4, 4, 4), 0.3)} == {
        (4, 4, 4)
    }
