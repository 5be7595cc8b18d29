"""Augmentation moves what it should, leaves the rest, and repeats itself from one generator."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import ndimage

from segpipe.augment import build
from segpipe.augment.sampling import sample_linear, sample_nearest
from segpipe.augment.spatial import affine_coordinates, rotation_matrix
from segpipe.config import AugmentConfig
from segpipe.errors import GeometryError

MOVES = ("rotate", "scale", "elastic")
INTENSITY = ("noise", "blur", "brightness", "contrast", "gamma", "bias_field", "low_resolution")
OFF = dict.fromkeys((*MOVES, *INTENSITY), 0.0)


def only(**chosen):
    return AugmentConfig(**{**OFF, "mirror_axes": (), **chosen})


ALL = only(**dict.fromkeys(OFF, 1.0), mirror_axes=("R", "A", "S"))


def scene(shape, channels=2, regions=2, seed=0):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.random((*shape, channels)), (1,) * len(shape) + (0,))
    image = ((image - image.min()) / np.ptp(image)).astype(np.float32)
    labels = np.where(image[..., 0] > 0.6, 2, 0).astype(np.uint8)
    labels[(slice(0, 2),) * len(shape)] = 255
    return image, labels, (image[..., :1] * np.linspace(0, 255, regions)).astype(np.uint8)


CUBE = (16, 16, 16)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_probability_0_is_the_identity_and_the_middle_of_the_block(dimensions):
    shape = (12, 14, 10)[:dimensions]
    for config in (only(), AugmentConfig(enabled=False)):
        augment = build(config, shape, (1, 1, 2), across=2 if dimensions == 2 else None)
        assert augment.margin(shape) == shape
        arrays = scene(shape)
        for before, after in zip(arrays, augment(*arrays, np.random.default_rng(0)), strict=True):
            assert after.dtype == before.dtype
            assert np.array_equal(after, before)
        smaller = tuple(n - 4 for n in shape)
        for before, after in zip(
            arrays, augment(*arrays, np.random.default_rng(0), smaller), strict=True
        ):
            assert np.array_equal(after, before[(slice(2, -2),) * dimensions])


@pytest.mark.parametrize("regions", [0, 2])
def test_everything_on_keeps_types_range_and_labels(regions):
    augment = build(ALL, CUBE, (1.0, 1.2, 2.0))
    patch = (10, 12, 8)
    arrays = scene(augment.margin(patch), regions=regions)
    copies = [a.copy() for a in arrays]
    for seed in range(15):
        image, labels, maps = augment(*arrays, np.random.default_rng(seed), patch)
        assert image.shape == (*patch, 2)
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 1
        assert labels.shape == patch
        assert labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {0, 2, 255}
        assert maps.shape == (*patch, regions)
        assert maps.dtype == np.uint8
    for before, after in zip(copies, arrays, strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_labels_around_the_patch_are_moved_with_it(dimensions):
    config = only(rotate=1.0, scale=1.0, mirror_axes=("R", "A", "S"))
    patch, around = (10, 12, 8)[:dimensions], (2, 0, 1)[:dimensions]
    augment = build(config, patch, (1, 1, 2), across=2 if dimensions == 2 else None)
    wide = tuple(n + 2 * a for n, a in zip(patch, around, strict=True))
    core = tuple(slice(a, a + n) for a, n in zip(around, patch, strict=True))
    arrays = scene(augment.margin(wide))
    seen = 0
    for seed in range(6):
        alone = augment(*arrays, np.random.default_rng(seed), patch)
        image, labels, maps = augment(*arrays, np.random.default_rng(seed), patch, around)
        all_of_it = augment(*arrays, np.random.default_rng(seed), wide)[1]
        assert np.array_equal(image, alone[0])
        assert np.array_equal(maps, alone[2])
        assert np.array_equal(labels[core], alone[1])
        assert np.array_equal(labels, all_of_it)
        seen += (labels > 0).sum() > (alone[1] > 0).sum()
    assert seen
    with pytest.raises(GeometryError, match="none smaller than the patch"):
        augment(*arrays, np.random.default_rng(0), arrays[1].shape, around)


def test_equal_generators_give_equal_patches_and_others_do_not():
    augment = build(ALL, CUBE, (1, 1, 1))
    arrays = scene((12, 12, 12))
    first = augment(*arrays, np.random.default_rng([1, 2]))
    augment(*arrays, np.random.default_rng(5))
    again = augment(*arrays, np.random.default_rng([1, 2]))
    other = build(ALL, CUBE, (1, 1, 1))(*arrays, np.random.default_rng([1, 2]))
    for a, b, c in zip(first, again, other, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()
    assert not np.array_equal(first[0], augment(*arrays, np.random.default_rng([1, 3]))[0])


def test_threads_at_once_change_nothing():
    config = AugmentConfig(**dict.fromkeys(OFF, 0.5))
    augment = build(config, CUBE, (1, 1, 1))
    arrays = scene((16, 16, 16))

    def draw(seed):
        return [a.tobytes() for a in augment(*arrays, np.random.default_rng(seed), (12, 12, 12))]

    alone = [draw(seed) for seed in range(40)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(draw, range(40))) == alone


@pytest.mark.parametrize("name", INTENSITY)
def test_each_intensity_transform_changes_each_channel_and_nothing_else(name):
    arrays = scene((14, 14, 14))
    image, labels, maps = build(only(**{name: 1.0}), CUBE, (1, 1, 1))(
        *arrays, np.random.default_rng(3)
    )
    for channel in range(2):
        assert np.abs(image[..., channel] - arrays[0][..., channel]).max() > 1e-3
    assert np.array_equal(labels, arrays[1])
    assert np.array_equal(maps, arrays[2])


@pytest.mark.parametrize("name", INTENSITY)
def test_constant_patches_stay_finite(name):
    labels = np.zeros((6, 6, 6), np.uint8)
    for value in (0.0, 1.0):
        image = np.full((6, 6, 6, 1), value, np.float32)
        result, _, _ = build(only(**{name: 1.0}), CUBE, (1, 1, 1))(
            image, labels, labels[..., None][..., :0], np.random.default_rng(0)
        )
        assert np.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= 1


def test_blur_is_the_same_in_mm_along_every_axis():
    image = np.zeros((31, 31, 31, 1), np.float32)
    image[15, 15, 15] = 1
    labels = np.zeros((31, 31, 31), np.uint8)
    result, _, _ = build(only(blur=1.0), CUBE, (1, 1, 2))(
        image, labels, labels[..., None][..., :0], np.random.default_rng(0)
    )
    near, far = result[17, 15, 15, 0], result[15, 15, 16, 0]
    assert 0 < near < result.max()
    assert near == pytest.approx(far, rel=1e-4)


def test_gamma_and_brightness_follow_their_formula():
    image = np.linspace(0, 0.5, 1000, dtype=np.float32).reshape(10, 10, 10, 1)
    labels = np.zeros((10, 10, 10), np.uint8)
    none = labels[..., None][..., :0]
    bright, _, _ = build(only(brightness=1.0), CUBE, (1, 1, 1))(
        image, labels, none, np.random.default_rng(1)
    )
    ratio = bright.ravel()[1:] / image.ravel()[1:]
    assert np.ptp(ratio) < 1e-5
    assert 0.75 <= ratio[0] <= 1.25
    bent, _, _ = build(only(gamma=1.0), CUBE, (1, 1, 1))(
        image, labels, none, np.random.default_rng(1)
    )
    low, high = bent.min(), bent.max()
    assert (low, high) == pytest.approx((0, 0.5), abs=1e-6)
    forms = [np.log(2 * bent.ravel()[500]) / np.log(500 / 999)]
    forms.append(np.log(1 - 2 * bent.ravel()[500]) / np.log(1 - 500 / 999))
    powers = [f for f in forms if 0.7 <= f <= 1.5]
    whole = [(2 * image.ravel()) ** p / 2 for p in powers]
    whole += [(1 - (1 - 2 * image.ravel()) ** p) / 2 for p in powers]
    assert min(np.abs(w - bent.ravel()).max() for w in whole) < 1e-5


def test_mirrors_are_exact_and_only_along_their_axes():
    arrays = scene((5, 6, 7))
    augment = build(only(mirror_axes=("A",)), CUBE, (1, 1, 1))
    seen = set()
    for seed in range(12):
        image, labels, maps = augment(*arrays, np.random.default_rng(seed))
        turned = np.array_equal(image, arrays[0][:, ::-1])
        assert turned or np.array_equal(image, arrays[0])
        step = -1 if turned else 1
        assert np.array_equal(labels, arrays[1][:, ::step])
        assert np.array_equal(maps, arrays[2][:, ::step])
        seen.add(turned)
    assert seen == {True, False}


def test_in_2d_the_axes_are_those_of_the_slice():
    """Slices across A: the patch's second axis is S."""
    augment = build(only(mirror_axes=("S",)), (6, 7), (1, 5, 1), across=1)
    arrays = scene((6, 7))
    flipped = [
        np.array_equal(augment(*arrays, np.random.default_rng(seed))[0], arrays[0][:, ::-1])
        for seed in range(10)
    ]
    assert any(flipped)
    assert not all(flipped)


def test_a_ball_in_mm_stays_a_ball_whatever_the_spacing():
    spacing = np.array([1.0, 1.0, 2.5])
    config = only(rotate=1.0, rotate_degrees=45.0)
    augment = build(config, (24, 24, 10), spacing)
    patch = (24, 24, 10)
    block = augment.margin(patch)
    grid = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(block, spacing, strict=True)]
    x, y, z = np.meshgrid(*grid, indexing="ij")
    soft = np.clip(9 - np.sqrt(x**2 + y**2 + z**2), -5, 5) / 10 + 0.5
    bar = ((np.abs(x) < 3) & (np.abs(y) < 3)).astype(np.uint8)
    none = np.zeros((*block, 0), np.uint8)
    image = soft[..., None].astype(np.float32)
    inner = tuple(slice((b - p) // 2, (b + p) // 2) for b, p in zip(block, patch, strict=True))
    for seed in range(5):
        moved, labels, _ = augment(image, bar, none, np.random.default_rng(seed), patch)
        assert np.abs(moved[..., 0] - soft[inner]).max() < 0.06
        assert np.abs(moved[..., 0] - soft[inner]).mean() < 0.01
        assert (labels != bar[inner]).sum() > 50


def test_a_quarter_turn_moves_each_voxel_where_it_belongs():
    block = np.random.default_rng(0).random((7, 7, 7, 5)).astype(np.float32)
    coordinates = affine_coordinates(rotation_matrix((0, 0, np.pi / 2)), (7, 7, 7), (7, 7, 7))
    turned = np.rot90(block, -1, axes=(0, 1))
    assert np.abs(sample_linear(block, coordinates) - turned).max() < 1e-5
    assert np.array_equal(sample_nearest(block[..., 0], coordinates), turned[..., 0])


def test_linear_sampling_is_scipys_to_a_32nd_of_a_voxel():
    rng = np.random.default_rng(1)
    block = ndimage.gaussian_filter(rng.random((20, 18, 16, 1)), (2, 2, 2, 0)).astype(np.float32)
    coordinates = rng.uniform(-2, 21, (3, 6, 7, 8)).astype(np.float32)
    expected = ndimage.map_coordinates(block[..., 0], coordinates, order=1, mode="nearest")
    steepest = max(np.abs(np.diff(block, axis=axis)).max() for axis in range(3))
    assert np.abs(sample_linear(block, coordinates)[..., 0] - expected).max() < steepest / 24


def test_blocks_too_large_for_one_opencv_image_give_the_same():
    block = np.zeros((200, 200, 3, 1), np.float32)
    block[..., 0] = np.arange(200, dtype=np.float32)[:, None, None]
    coordinates = affine_coordinates(np.eye(3) * 1.5, (200, 200, 3), (130, 130, 2))
    sampled = sample_linear(block, coordinates)
    np.testing.assert_allclose(sampled[..., 0], coordinates[0].clip(0, 199), atol=1e-4)


@pytest.mark.parametrize("degrees", [15.0, 60.0, 180.0])
@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 2.5), (1, 6, 1)])
def test_the_margin_is_enough_and_even(spacing, degrees):
    """Every coordinate that can be drawn lies within the block."""
    config = only(rotate=1.0, rotate_degrees=degrees, scale=1.0, elastic=1.0)
    patch = (16, 14, 9)
    augment = build(config, patch, spacing)
    block = augment.margin(patch)
    assert all((b - p) % 2 == 0 and b >= p for b, p in zip(block, patch, strict=True))
    deform = augment._deform
    data = {"volume": np.zeros((*block, 1), np.float32), "patch": patch, "around": (0, 0, 0)}
    for seed in range(30):
        deform.set_random_seed(seed)
        drawn = deform.get_params_dependent_on_data({}, data)["coordinates"]
        for axis in range(3):
            assert drawn[axis].min() >= -1e-3
            assert drawn[axis].max() <= block[axis] - 1 + 1e-3


def test_nothing_moves_across_thick_slices():
    augment = build(only(rotate=1.0, scale=1.0, elastic=1.0), CUBE, (1, 1, 6))
    block = (20, 20, 5)
    image = np.broadcast_to(np.linspace(0, 1, 5, dtype=np.float32), (20, 20, 5))[..., None]
    labels = np.zeros(block, np.uint8)
    none = np.zeros((*block, 0), np.uint8)
    moved, _, _ = augment(np.ascontiguousarray(image), labels, none, np.random.default_rng(0))
    np.testing.assert_allclose(moved, image, atol=1e-5)


@pytest.mark.parametrize(
    ("patch", "spacing", "fixed"),
    [
        ((128, 128, 6), (1, 1, 1), (False, False, True)),
        ((3, 64, 64), (1, 1, 1), (True, False, False)),
        ((96, 96, 20), (0.9, 0.9, 2.7), (False, False, False)),
        ((48, 16, 16), (1, 1, 1), (False, False, False)),
    ],
)
def test_nothing_turns_out_of_a_thin_slab(patch, spacing, fixed):
    augment = build(only(rotate=1.0, scale=1.0, elastic=1.0), patch, spacing)
    assert augment.fixed_axes == fixed
    assert [b == p for b, p in zip(augment.margin(patch), patch, strict=True)] == list(fixed)


def test_a_large_slice_is_sampled_as_scipy_does():
    """One plane is one image: no slower, and no less exact, than a small one."""
    block = ndimage.gaussian_filter(
        np.random.default_rng(2).random((300, 260, 1, 2)), (2, 2, 0, 0)
    ).astype(np.float32)
    patch = (240, 220, 1)
    coordinates = affine_coordinates(rotation_matrix((0, 0, 0.2)), block.shape[:3], patch)
    sampled = sample_linear(block, coordinates)
    steepest = max(np.abs(np.diff(block, axis=axis)).max() for axis in range(2))
    for channel in range(2):
        expected = ndimage.map_coordinates(
            block[..., channel], coordinates, order=1, mode="nearest"
        )
        assert np.abs(sampled[..., channel] - expected).max() < steepest / 24
    assert sample_linear((block * 255).astype(np.uint8), coordinates).dtype == np.uint8


def test_scaling_magnifies_about_the_centre():
    augment = build(only(scale=1.0, scale_range=(1.25, 1.25)), CUBE, (1, 1, 1))
    block = (41, 41, 41)
    x, y, z = np.meshgrid(*[np.arange(41) - 20.0] * 3, indexing="ij")
    ball = (x**2 + y**2 + z**2 < 100).astype(np.uint8)
    image = ball[..., None].astype(np.float32)
    none = np.zeros((*block, 0), np.uint8)
    _, labels, _ = augment(image, ball, none, np.random.default_rng(0))
    assert (
        np.array_equal(labels, (x**2 + y**2 + z**2 < 156.25).astype(np.uint8))
        or abs(labels.sum() / ball.sum() - 1.25**3) < 0.08
    )
    assert ndimage.center_of_mass(labels) == pytest.approx((20, 20, 20), abs=0.05)


def test_shapes_that_do_not_fit_are_refused():
    augment = build(only(), CUBE, (1, 1, 1))
    image, labels, maps = scene((6, 6, 6))
    with pytest.raises(GeometryError, match="none smaller than the patch"):
        augment(image, labels, maps, np.random.default_rng(0), (8, 6, 6))
    with pytest.raises(GeometryError, match="of one shape"):
        augment(image, labels[1:], maps, np.random.default_rng(0))
