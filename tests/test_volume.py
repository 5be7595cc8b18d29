import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.errors import GeometryError
from segpipe.volume import Volume, describe_grid, grid_difference_mm, same_grid

LAS = np.array([[-2.0, 0, 0, 10], [0, 3, 0, -20], [0, 0, 4, 5.5], [0, 0, 0, 1]])


def test_spacing_volume_and_directions_come_from_the_affine():
    volume = Volume(np.zeros((5, 6, 7, 2)), LAS)
    assert volume.shape == (5, 6, 7)
    assert volume.spacing_mm == (2.0, 3.0, 4.0)
    assert volume.voxel_volume_mm3 == pytest.approx(24)
    assert volume.axcodes == "LAS"
    assert (
        describe_grid(volume) == "shape 5×6×7, spacing 2×3×4 mm, LAS, origin (10.00, -20.00, 5.50)"
    )


def test_a_sheared_grid_has_the_volume_of_its_determinant():
    sheared = LAS.copy()
    sheared[0, 1] = 4.0
    volume = Volume(np.zeros((2, 2, 2)), sheared)
    assert volume.voxel_volume_mm3 == pytest.approx(24)
    assert volume.spacing_mm == (2.0, 5.0, 4.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_spacing_agrees_with_nibabel_on_oblique_grids(seed):
    rng = np.random.default_rng([1, seed])
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.3, 6, 3)
    affine[:3, 3] = rng.normal(size=3) * 100
    volume = Volume(np.zeros((2, 3, 4)), affine)
    np.testing.assert_allclose(volume.spacing_mm, nib.affines.voxel_sizes(affine))
    assert volume.voxel_volume_mm3 == pytest.approx(np.prod(volume.spacing_mm))


@pytest.mark.parametrize(
    ("shape", "affine", "said"),
    [
        ((4, 4), np.eye(4), r"3 axes, or 4 with channels last; received shape \(4, 4\)"),
        ((4,) * 5, np.eye(4), "3 axes"),
        ((4,) * 3, np.eye(3), "finite 4×4"),
        ((4,) * 3, np.full((4, 4), np.nan), "finite 4×4"),
        ((4,) * 3, np.diag([1, 1, np.inf, 1]), "finite 4×4"),
        ((4,) * 3, np.diag([1, 0, 1, 1]), "invertible"),
    ],
)
def test_what_is_no_grid_is_refused(shape, affine, said):
    with pytest.raises(GeometryError, match=said):
        Volume(np.zeros(shape), affine)


def test_other_voxels_keep_the_grid_and_the_form_codes():
    volume = Volume(np.zeros((2, 3, 4)), LAS, form_codes=(0, 4))
    other = volume.with_array(np.ones((2, 3, 4, 2)))
    assert other.array.sum() == 48
    assert other.form_codes == (0, 4)
    np.testing.assert_array_equal(other.affine, LAS)
    with pytest.raises(GeometryError, match=r"expected an array of shape \(2, 3, 4\)"):
        volume.with_array(np.ones((2, 3, 5)))


def test_grids_differ_by_their_farthest_corner():
    a = Volume(np.zeros((11, 2, 2)), np.eye(4))
    stretched = np.diag([1.004, 1, 1, 1])
    b = Volume(np.zeros((11, 2, 2)), stretched)
    assert grid_difference_mm(a, b) == pytest.approx(0.04)
    assert same_grid(a, b)
    assert not same_grid(a, b, tolerance_mm=0.03)
    assert grid_difference_mm(a, Volume(np.zeros((11, 2, 3)), np.eye(4))) == np.inf
    moved = np.eye(4)
    moved[:3, 3] = (3, 4, 0)
    assert grid_difference_mm(a, Volume(np.ones((11, 2, 2, 5)), moved)) == pytest.approx(5)
