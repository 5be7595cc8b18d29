import math
from itertools import product

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from segpipe.metrics.surface import (
    SurfaceDistances,
    average_symmetric_mm,
    hausdorff95_mm,
    surface_dice,
    surface_distances,
)

SHEARED = np.array([[0.7, -0.4, 0.1], [0.5, 1.1, 0], [0, 0.2, 3.0]])


def elements(mask):
    """Corner points between unlike voxels, one by one."""
    padded = np.pad(mask, 1)
    corners = product(*(range(n + 1) for n in mask.shape))
    return np.array(
        [c for c in corners if 0 < padded[tuple(slice(i, i + 2) for i in c)].sum() < 2**mask.ndim]
    )


def brute_force_mm(reference, prediction, linear):
    a, b = elements(reference) @ linear.T, elements(prediction) @ linear.T
    distances = cdist(a, b)
    return np.sort(distances.min(axis=1)), np.sort(distances.min(axis=0))


def random_pair(seed, dimensions=3):
    rng = np.random.default_rng(seed)
    shape = rng.integers(3, 9, dimensions)
    a, b = (rng.random(shape) < rng.uniform(0.05, 0.6) for _ in range(2))
    if seed % 2:
        a, b = (ndimage.gaussian_filter(m.astype(float), 1) > 0.25 for m in (a, b))
    a.flat[0] = b.flat[-1] = True
    return a, b


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("linear", [np.eye(3), np.diag([0.9, 0.9, 6.5]), SHEARED])
def test_distances_equal_brute_force(seed, linear):
    a, b = random_pair(seed)
    found = surface_distances(a, b, linear)
    forth, back = brute_force_mm(a, b, linear)
    np.testing.assert_allclose(found.reference_mm, forth, atol=1e-9)
    np.testing.assert_allclose(found.prediction_mm, back, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_single_slice_is_planar(seed):
    a, b = random_pair(seed, dimensions=2)
    linear = np.diag([0.8, 1.7, 5.0])
    found = surface_distances(a[..., None], b[..., None], linear)
    np.testing.assert_allclose(found.reference_mm, brute_force_mm(a, b, linear[:2, :2])[0])


def test_area_of_one_voxel_is_that_of_the_octahedron():
    mask = np.ones((1, 1, 1), bool)
    cube = np.pad(mask, 2)
    found = surface_distances(cube, cube, np.eye(3))
    assert len(found.reference_area) == 8
    assert found.reference_area.sum() == pytest.approx(math.sqrt(3))


def test_area_of_a_slab_is_that_of_its_faces_and_bevelled_edges():
    mask = np.zeros((12, 14, 9), bool)
    mask[1:11, 1:13, 1:8] = True  # 10 × 12 × 7 voxels
    found = surface_distances(mask, mask, np.diag([1, 2, 3.0]))
    a, b, c = 9, 11, 6  # faces lose half a voxel at each edge
    faces = 2 * (a * b * 2 + b * c * 6 + a * c * 3)
    bevels = 4 * (a * np.hypot(1, 1.5) + b * 2 * np.hypot(0.5, 1.5) + c * 3 * np.hypot(0.5, 1))
    corner = np.linalg.norm(np.cross([-0.5, 1, 0], [-0.5, 0, 1.5])) / 2
    assert found.reference_area.sum() == pytest.approx(faces + bevels + 8 * corner)


def test_hole_has_the_surface_of_a_voxel():
    block = np.ones((7, 7, 7), bool)
    hollow = block.copy()
    hollow[3, 3, 3] = False
    full, holed = (surface_distances(m, m, np.eye(3)).reference_area.sum() for m in (block, hollow))
    assert holed - full == pytest.approx(math.sqrt(3))


def test_length_of_a_contour():
    mask = np.zeros((7, 8, 1), bool)
    mask[1:5, 1:4, 0] = True  # 4 × 3 pixels of 2 × 3 mm
    found = surface_distances(mask, mask, np.diag([2, 3, 9.0]))
    expected = 2 * (3 * 2 + 2 * 3) + 4 * math.hypot(1, 1.5)
    assert found.reference_area.sum() == pytest.approx(expected)


def test_diagonal_pixels_have_two_contours():
    mask = np.zeros((4, 4, 1), bool)
    mask[1, 1, 0] = mask[2, 2, 0] = True
    found = surface_distances(mask, mask, np.eye(3))
    assert found.reference_area.sum() == pytest.approx(8 * math.sqrt(0.5))


def test_shifted_cube():
    mask = np.zeros((12, 12, 12), bool)
    mask[2:8, 2:8, 2:8] = True
    found = surface_distances(mask, np.roll(mask, 2, axis=0), np.diag([1.5, 1, 1]))
    assert hausdorff95_mm(found) == 3.0
    assert surface_dice(found, 3.0) == 1.0
    assert 0 < average_symmetric_mm(found) < 3


def test_percentile_and_means_are_weighted_by_area():
    found = SurfaceDistances(
        np.array([0.0, 1, 7]), np.array([0.0, 2]), np.array([90.0, 5, 5]), np.array([60.0, 40])
    )
    assert hausdorff95_mm(found) == 2.0  # 95 % of the first surface lie within 1 mm
    assert average_symmetric_mm(found) == pytest.approx((5 + 35 + 80) / 200)
    assert surface_dice(found, 1.0) == pytest.approx(155 / 200)
    assert surface_dice(found, 1.0 - 1e-7) == surface_dice(found, 1.0)
    assert surface_dice(found, 0.999) == pytest.approx(150 / 200)
