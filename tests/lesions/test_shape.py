import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from skimage.measure import regionprops

from segpipe.lesions.components import label_components
from segpipe.lesions.shape import (
    describe_components,
    in_plane_diameter_mm,
    longest_diameter_mm,
    side_of,
)

SHEARED = np.array([[0.7, -0.4, 0.1, 5], [0.5, 1.1, 0, -3], [0, 0.2, 3.0, 9], [0, 0, 0, 1.0]])


def brute_force_mm(mask, affine):
    centres = np.argwhere(mask)
    steps = np.concatenate([np.eye(3), -np.eye(3)]) / 2
    points = (centres[:, None] + steps).reshape(-1, 3) @ affine[:3, :3].T
    return pdist(points).max()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("affine", [np.eye(4), np.diag([0.9, 0.9, 6.5, 1]), SHEARED])
def test_longest_diameter_equals_brute_force(seed, affine):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 7, 3)) < 0.5
    mask.flat[0] = True
    assert longest_diameter_mm(mask, affine) == pytest.approx(brute_force_mm(mask, affine))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("affine", [np.eye(4), np.diag([0.9, 0.9, 6.5, 1]), SHEARED])
def test_in_plane_diameter_equals_brute_force_and_is_never_longer(axis, affine):
    rng = np.random.default_rng(axis)
    mask = rng.random((5, 6, 4)) < 0.4
    steps = np.delete(np.concatenate([np.eye(3), -np.eye(3)]) / 2, [axis, axis + 3], axis=0)
    longest = 0.0
    for index in range(mask.shape[axis]):
        centres = np.argwhere(mask)
        centres = centres[centres[:, axis] == index]
        points = (centres[:, None] + steps).reshape(-1, 3) @ affine[:3, :3].T
        longest = max(longest, pdist(points).max())
    found = in_plane_diameter_mm(mask, affine, axis)
    assert found == pytest.approx(longest)
    assert found <= longest_diameter_mm(mask, affine)


def test_longest_diameter_of_a_convex_body_equals_scikit_image():
    mask = np.ones((9, 5, 3), bool)
    (expected,) = regionprops(mask.astype(int), spacing=(1, 1.5, 2))
    found = longest_diameter_mm(mask, np.diag([1, 1.5, 2, 1]))
    assert found == pytest.approx(expected.feret_diameter_max, rel=1e-6)


def test_the_diameter_of_a_body_takes_no_list_of_its_voxels():
    mask = np.zeros((130, 130, 130), bool)
    mask[5:-5, 5:-5, 5:-5] = True
    tracemalloc.start()
    try:
        found = longest_diameter_mm(mask, np.eye(4))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == pytest.approx(np.sqrt(120**2 + 119**2 + 119**2))
    assert peak < 8 * mask.sum()


def test_components_are_described_in_the_world():
    mask = np.zeros((6, 6, 6), bool)
    mask[0:2, 3, 3] = True
    mask[4, 2:4, 2] = True
    affine = np.diag([-10.0, 1, 2, 1])
    affine[:3, 3] = [20, 0, 0]
    first, second = describe_components(label_components(mask)[0], affine)
    assert (first.id, first.voxels, first.volume_ml) == (1, 2, pytest.approx(0.04))
    assert first.centroid_voxel == (0.5, 3, 3)
    assert first.longest_diameter_mm == 20
    assert (first.side, first.touches_border) == ("R", True)
    assert second.centroid_voxel == (4, 2.5, 2)
    assert (second.side, second.touches_border) == ("L", False)


def test_side_is_not_claimed_near_the_midline():
    assert [side_of(x) for x in (-5.1, -5, 5, 5.1)] == ["L", "midline", "midline", "R"]
    assert side_of(30, midline_x_mm=40) == "L"


def test_single_slice_does_not_touch_its_own_faces():
    labels = np.zeros((5, 5, 1), int)
    labels[2, 2, 0] = 1
    (only,) = describe_components(labels, np.eye(4))
    assert not only.touches_border


def test_nothing_to_describe():
    assert describe_components(np.zeros((2, 2, 2), int), np.eye(4)) == []
