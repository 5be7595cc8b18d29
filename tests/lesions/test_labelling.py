import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segpipe.lesions.components import component_voxels, label_components, large_enough

STRUCTURES = {6: 1, 18: 2, 26: 3}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.floats(0.01, 0.6),
    connectivity=st.sampled_from([6, 18, 26]),
    order=st.sampled_from("CF"),
)
def test_labels_equal_scipy_in_number_and_order(seed, density, connectivity, order):
    mask = np.asarray(np.random.default_rng(seed).random((9, 7, 8)) < density, order=order)
    labels, count = label_components(mask, connectivity)
    structure = ndimage.generate_binary_structure(3, STRUCTURES[connectivity])
    expected, number = ndimage.label(mask, structure)
    assert count == number
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 1, 3), (23, 21, 1), (5, 5, 5)])
def test_as_many_single_voxels_as_fit(shape):
    mask = np.zeros(shape, bool)
    mask[::2, ::2, ::2] = True
    assert label_components(mask)[1] == mask.sum()


def test_single_slice_has_8_neighbours():
    mask = np.zeros((3, 3, 1), bool)
    mask[0, 0, 0] = mask[1, 1, 0] = True
    assert label_components(mask, 26)[1] == 1
    assert label_components(mask, 6)[1] == 2


def test_empty_mask_has_no_component():
    labels, count = label_components(np.zeros((2, 3, 4), bool))
    assert count == 0
    assert labels.shape == (2, 3, 4)
    assert not labels.any()


def test_component_voxels_in_label_order():
    assert component_voxels(np.array([[[2, 2, 0, 1, 4]]]), 4).tolist() == [1, 2, 0, 1]


@pytest.mark.parametrize("rounding", [1 - 1e-7, 1.0, 1 + 1e-7])
def test_size_at_the_limit_stays_whatever_the_affine_rounds_to(rounding):
    kept = large_enough(np.array([9, 10]), rounding, 10.0)
    assert kept.tolist() == [False, True]
