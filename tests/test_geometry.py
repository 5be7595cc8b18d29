"""Round trips are exact, resampling is scipy's, positions in the world stay."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from segpipe.errors import GeometryError
from segpipe.geometry import (
    GridTransform,
    bounding_box,
    crop,
    forward,
    forward_labels,
    grid_transform,
    inverse,
    ras_orientation,
    reorient,
    resample,
    resample_labels,
    uncrop,
    unreorient,
)

SIGNED_PERMUTATIONS = st.tuples(
    st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)
)


def rotation(angles):
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


@st.composite
def affines(draw):
    """Any orientation, oblique by up to about 20 degrees, anisotropic, shifted."""
    order, signs = draw(SIGNED_PERMUTATIONS)
    spacing = [draw(st.floats(0.3, 8.0)) for _ in range(3)]
    angles = [draw(st.floats(-0.2, 0.2)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = rotation(angles) @ np.eye(3)[:, order] * signs * spacing
    affine[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return affine


volumes = hnp.arrays(
    np.float32,
    st.tuples(*[st.integers(1, 9)] * 3),
    elements=st.floats(-1000, 1000, width=32),
)


def some_box(data, shape):
    box = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        box.append((start, data.draw(st.integers(start + 1, n))))
    return tuple(box)


@settings(deadline=None)
@given(volumes, affines(), st.data())
def test_reorient_and_crop_invert_bit_for_bit(array, affine, data):
    axes, flips = ras_orientation(affine)
    turned = reorient(array, axes, flips)
    assert np.array_equal(unreorient(turned, axes, flips), array)
    box = some_box(data, turned.shape)
    transform = grid_transform(array.shape, affine, None, box)
    back = inverse(forward(array, transform, 3), transform, 1, fill=-7.0)
    inside = unreorient(uncrop(np.ones_like(crop(turned, box)), box, turned.shape), axes, flips)
    assert np.array_equal(back, np.where(inside == 1, array, -7.0))


@settings(deadline=None)
@given(volumes, affines(), st.data())
def test_a_prepared_voxel_lies_where_the_stored_one_did(array, affine, data):
    axes, flips = ras_orientation(affine)
    box = some_box(data, reorient(array, axes, flips).shape)
    transform = grid_transform(array.shape, affine, None, box)
    number = np.arange(array.size, dtype=np.float64).reshape(array.shape)
    prepared = forward(number, transform, 1)
    voxel = tuple(data.draw(st.integers(0, n - 1)) for n in prepared.shape)
    stored = np.unravel_index(int(prepared[voxel]), array.shape)
    world = transform.affine @ [*voxel, 1]
    np.testing.assert_allclose(world, affine @ [*stored, 1], atol=1e-6)
    assert ras_orientation(transform.affine) == ((0, 1, 2), (False, False, False))


@settings(deadline=None)
@given(affines(), st.tuples(*[st.integers(4, 20)] * 3), st.tuples(*[st.floats(0.4, 5.0)] * 3))
def test_resampling_keeps_the_field_of_view(affine, shape, spacing):
    transform = grid_transform(shape, affine, spacing)
    whole = grid_transform(shape, affine)
    for edges in ([-0.5] * 3, None):
        before = np.array(edges or [n - 0.5 for n in whole.target_shape])
        after = np.array(edges or [n - 0.5 for n in transform.target_shape])
        np.testing.assert_allclose(
            transform.affine @ [*after, 1], whole.affine @ [*before, 1], atol=1e-6
        )
    extent = np.array(transform.spacing_mm) * transform.target_shape
    np.testing.assert_allclose(extent, np.array(whole.spacing_mm) * whole.target_shape)


@settings(deadline=None, max_examples=40)
@given(affines(), st.data())
def test_world_coordinates_survive_resampling_and_the_way_back(affine, data):
    """A linear ramp in world coordinates is itself on any grid, away from the border."""
    shape = (16, 18, 20)
    transform = grid_transform(shape, affine, [s * 0.7 for s in ras_spacing(affine, shape)])
    direction = np.array([0.3, -0.5, 0.8])
    ramp = ramp_on(affine, shape, direction)
    prepared = forward(ramp, transform, 1)
    expected = ramp_on(transform.affine, transform.target_shape, direction)
    size = float(np.ptp(ramp))
    middle = (slice(3, -3),) * 3
    np.testing.assert_allclose(prepared[middle], expected[middle], atol=2e-5 * size)
    back = inverse(prepared, transform, 1)
    assert back.shape == shape
    np.testing.assert_allclose(back[middle], ramp[middle], atol=2e-5 * size)


def ras_spacing(affine, shape):
    return grid_transform(shape, affine).spacing_mm


def ramp_on(affine, shape, direction):
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    return ((voxels @ affine[:3, :3].T) @ direction + affine[:3, 3] @ direction).astype(np.float64)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("shape", [(14, 9, 23), (11, 12, 13), (31, 12, 8)])
def test_finer_resampling_equals_scipy(order, shape):
    array = np.random.default_rng(0).random((7, 6, 5), dtype=np.float32)
    shape = tuple(max(a, b) for a, b in zip(shape, array.shape, strict=True))
    zoom = [m / n for m, n in zip(shape, array.shape, strict=True)]
    expected = ndimage.zoom(array, zoom, order=order, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resample(array, shape, order), expected, atol=2e-6)


def test_coarser_resampling_is_a_gaussian_then_scipy():
    array = np.random.default_rng(1).random((12, 20, 9), dtype=np.float32)
    sigma = (0.5 * (12 / 5 - 1), 0.5 * (20 / 10 - 1), 0)
    blurred = ndimage.gaussian_filter(array.astype(float), sigma, mode="nearest")
    expected = ndimage.zoom(blurred, (5 / 12, 0.5, 1), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resample(array, (5, 10, 9), 1), expected, atol=1e-6)


def test_channels_are_resampled_one_by_one_and_linear_stays_in_range():
    array = np.random.default_rng(2).random((6, 7, 8, 3), dtype=np.float32)
    result = resample(array, (9, 5, 17), 1)
    for c in range(3):
        assert np.array_equal(result[..., c], resample(array[..., c], (9, 5, 17), 1))
    assert result.min() >= array.min()
    assert result.max() <= array.max()


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(
        np.uint8, st.tuples(*[st.integers(1, 8)] * 3), elements=st.sampled_from([0, 1, 4, 255])
    ),
    st.tuples(*[st.integers(1, 12)] * 3),
)
def test_labels_stay_among_themselves(labels, shape):
    result = resample_labels(labels, shape)
    assert result.dtype == np.uint8
    assert result.shape == shape
    assert set(np.unique(result)) <= set(np.unique(labels))


def test_labels_take_the_largest_share():
    labels = np.zeros((4, 1, 1), np.int32)
    labels[2:] = 7
    assert resample_labels(labels, (8, 1, 1)).ravel().tolist() == [0, 0, 0, 0, 7, 7, 7, 7]
    labels[:, 0, 0] = [0, 3, 3, 9]
    shares = {v: resample((labels == v).astype(np.float32), (7, 1, 1), 1) for v in (0, 3, 9)}
    winner = [max((shares[v][i, 0, 0], v) for v in shares)[1] for i in range(7)]
    assert resample_labels(labels, (7, 1, 1)).ravel().tolist() == winner


def test_within_one_percent_of_the_target_nothing_is_resampled():
    affine = np.diag([1.009, 0.991, 1.02, 1])
    transform = grid_transform((100, 100, 100), affine, (1.0, 1.0, 1.0))
    assert transform.target_shape == (100, 100, 102)
    array = np.random.default_rng(3).random((100, 100, 100)).astype(np.float64)
    same = grid_transform((100, 100, 100), np.diag([-1.009, 0.991, 1, 1]), (1, 1, 1))
    assert inverse(forward(array, same, 3), same, 1).tobytes() == array.tobytes()


def test_thick_slices_are_interpolated_linearly_across():
    array = np.random.default_rng(4).random((6, 6, 6)).astype(np.float32)
    thick = grid_transform((6, 6, 6), np.diag([1, 1, 6.0, 1]), (0.5, 0.5, 1.0))
    assert thick.orders(3) == (3, 3, 1)
    assert grid_transform((6, 6, 6), np.diag([1, 1, 3.0, 1]), (1, 1, 1)).orders(3) == (3, 3, 3)
    np.testing.assert_array_equal(
        forward(array, thick, 3), resample(array, thick.target_shape, (3, 3, 1))
    )


def test_bounding_box_holds_every_voxel_and_nothing_more():
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2, 3] = mask[3, 2, 6] = True
    assert bounding_box(mask) == ((1, 4), (2, 3), (3, 7))
    assert bounding_box(np.zeros((5, 6, 7), bool)) == ((0, 5), (0, 6), (0, 7))


@given(affines(), st.tuples(*[st.floats(0.4, 5.0)] * 3))
def test_a_transform_survives_json(affine, spacing):
    transform = grid_transform((5, 6, 7), affine, spacing, ((0, 2), (1, 3), (0, 4)))
    assert GridTransform.from_dict(json.loads(json.dumps(transform.to_dict()))) == transform


def test_labels_go_forward_like_volumes():
    labels = np.random.default_rng(5).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    affine = np.array([[0, -2.0, 0, 3], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
    transform = grid_transform((4, 5, 6), affine)
    assert np.array_equal(forward_labels(labels, transform), forward(labels, transform, 1))
    assert forward_labels(labels, transform).shape == (5, 4, 6)


def test_other_shapes_and_spacings_are_refused():
    transform = grid_transform((4, 5, 6), np.eye(4))
    with pytest.raises(GeometryError, match=r"expected voxels \(4, 5, 6\); received \(5, 4, 6\)"):
        forward(np.zeros((5, 4, 6)), transform, 1)
    with pytest.raises(GeometryError, match="inverse"):
        inverse(np.zeros((4, 5, 7)), transform, 1)
    with pytest.raises(GeometryError, match="positive"):
        grid_transform((4, 5, 6), np.eye(4), (1, 0, 1))
