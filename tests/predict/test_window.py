import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.predict.mirroring import mirrorings
from segpipe.predict.tiles import gaussian_weights, tile_starts, tiles
from segpipe.predict.window import foreground_probabilities, predict_volume


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 90))
def test_tiles_cover_every_voxel_and_overlap_enough(length, tile, overlap):
    tile = min(tile, length)
    starts = tile_starts(length, tile, overlap / 100)
    covered = np.zeros(length, int)
    for start in starts:
        covered[start : start + tile] += 1
    assert starts[0] == 0
    assert starts[-1] == length - tile
    assert covered.min() >= 1
    step = max(1, tile * (100 - overlap) // 100)
    assert all(b - a <= step for a, b in itertools.pairwise(starts))
    assert len(starts) == math.ceil((length - tile) / step) + 1


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


@given(
    st.tuples(*[st.integers(1, 11)] * 3),
    st.tuples(*[st.integers(1, 6)] * 3),
    st.sampled_from([0.0, 0.4, 0.8]),
    st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_blending_on_the_way_equals_blending_the_whole_bit_for_bit(shape, patch, overlap, batch):
    shape = tuple(max(n, p) for n, p in zip(shape, patch, strict=True))
    rng = np.random.default_rng(1)
    image = rng.normal(size=(*shape, 1)).astype(np.float32)
    place = rng.normal(size=(*patch, 3)).astype(np.float32)  # what a tile says depends on where
    got = predict_volume(
        image, lambda tile: tile * place, patch=patch, overlap=overlap, batch=batch
    )
    weights = gaussian_weights(patch)[..., None]
    logits, total = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 1), np.float32)
    for box in tiles(shape, patch, overlap):
        logits[box] += image[box] * place * weights
        total[box] += weights
    np.testing.assert_array_equal(got, foreground_probabilities(logits / total))


def test_logits_of_a_long_scan_are_never_all_in_memory():
    image = np.zeros((800, 16, 16, 1), np.float32)
    tracemalloc.start()
    got = predict_volume(
        image, lambda tile: np.repeat(tile, 4, -1), patch=(16, 16, 16), overlap=0.5, batch=2
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.nbytes == 3 * image.nbytes
    assert peak - got.nbytes < image.nbytes


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


def weigh(stack):
    """A local network that sees neither neighbours nor directions."""
    return 2 * stack[..., :1] - stack[..., 1:] ** 2


def lean(stack):
    """A network that looks one voxel to the left along the first axis of its input."""
    return np.roll(stack[..., :1], 1, axis=1)


@pytest.mark.parametrize("mirroring", mirrorings("RAS"))
def test_a_network_that_does_not_mind_mirroring_gives_equal_numbers(mirroring):
    image = np.random.default_rng(1).normal(size=(9, 7, 8, 2)).astype(np.float32)
    settings = {"patch": (4, 4, 5), "overlap": 0.5, "batch": 2}
    plain = predict_volume(image, weigh, **settings)
    mirrored = predict_volume(image, weigh, **settings, mirroring=mirroring)
    np.testing.assert_array_equal(mirrored, plain)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_tile_is_turned_before_the_network_and_back_after_it(axis):
    image = np.random.default_rng(2).normal(size=(6, 6, 6, 1)).astype(np.float32)
    turned = np.moveaxis(image, axis, 0)
    got = predict_volume(
        image,
        lambda stack: np.moveaxis(lean(np.moveaxis(stack, axis + 1, 1)), 1, axis + 1),
        patch=(6, 6, 6),
        overlap=0.5,
        batch=1,
        mirroring=(axis,),
    )
    logits = np.roll(turned, -1, axis=0)  # mirrored, what was on the left is on the right
    np.testing.assert_allclose(np.moveaxis(got, axis, 0), 1 / (1 + np.exp(-logits)), rtol=1e-5)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_slices_are_mirrored_in_their_plane(slice_axis):
    image = np.random.default_rng(3).normal(size=(5, 6, 7, 1)).astype(np.float32)
    patch = [n for axis, n in enumerate(image.shape[:3]) if axis != slice_axis]
    axis = next(k for k in range(3) if k != slice_axis)
    settings = {"patch": patch, "overlap": 0.5, "batch": 1, "slice_axis": slice_axis}
    got = predict_volume(image, lean, **settings, mirroring=(axis,))
    logits = np.roll(image, -1, axis=axis)  # the first axis of a slice is the volume's `axis`
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_mirrorings_are_all_combinations_without_the_axis_across_slices():
    assert mirrorings("SAR") == [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    assert mirrorings(["R", "R"]) == [(), (0,)]
    assert mirrorings(["S"], slice_axis=2) == mirrorings([]) == [()]
