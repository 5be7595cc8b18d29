import itertools

import nibabel as nib
import numpy as np
import pytest

from segpipe.data.nifti import align
from segpipe.errors import GeometryError
from segpipe.volume import Volume

AFFINE = np.array([[-1.0, 0.1, 0, 90], [0.1, 1.2, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]])
ARRAY = np.arange(60).reshape(5, 4, 3)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product([1, -1], repeat=3)))
def test_every_flip_and_permutation_is_undone(axes, flips):
    turn = np.column_stack([axes, flips])
    stored = nib.Nifti1Image(ARRAY.astype(np.int16), AFFINE).as_reoriented(turn)
    volume = Volume(np.asarray(stored.dataobj), stored.affine)
    like = Volume(np.zeros(ARRAY.shape), AFFINE, (2, 4))
    aligned = align(volume, like)
    np.testing.assert_array_equal(aligned.array, ARRAY)
    np.testing.assert_array_equal(aligned.affine, AFFINE)
    assert aligned.form_codes == (2, 4)
    assert all(stride > 0 for stride in aligned.array.strides)


def test_channels_follow():
    channels = np.stack([ARRAY, ARRAY + 100], -1)
    flipped = AFFINE @ np.array([[-1, 0, 0, 4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    aligned = align(Volume(channels[::-1], flipped), Volume(ARRAY, AFFINE))
    np.testing.assert_array_equal(aligned.array, channels)


def test_tolerance_is_of_the_farthest_corner_in_mm():
    shifted = AFFINE.copy()
    shifted[0, 3] += 0.04
    like = Volume(ARRAY, AFFINE)
    np.testing.assert_array_equal(align(Volume(ARRAY, shifted), like).affine, AFFINE)
    with pytest.raises(GeometryError, match=r"corners up to 0\.04 mm apart"):
        align(Volume(ARRAY, shifted), like, tolerance_mm=0.03)


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ((5, 4, 3), np.diag([1, 1, 1.1, 1])),
        ((5, 4, 2), np.eye(4)),
        ((5, 4, 3), np.diag([-1, 1, 1, 1])),
        ((4, 5, 3), np.eye(4)),
    ],
)
def test_other_grids_are_refused_with_both_printed(shape, change):
    with pytest.raises(GeometryError) as caught:
        align(Volume(np.zeros(shape), change @ AFFINE), Volume(ARRAY, AFFINE))
    message = str(caught.value)
    assert "expected shape 5×4×3" in message
    assert f"received shape {'×'.join(map(str, shape))}" in message
    assert "nearest neighbour" in message
