"""Files written by nibabel, the independent oracle of our own reader."""

import nibabel as nib
import numpy as np
import pytest

LAS_2MM = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


@pytest.fixture
def save():
    """Write an array with nibabel; parent folders are made."""

    def _save(path, array, affine=LAS_2MM):
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(np.asarray(array), affine).to_filename(path)
        return path

    return _save


@pytest.fixture
def scan():
    """A different (5, 4, 3) float32 image for every seed."""

    def _scan(seed=0):
        return np.random.default_rng([7, seed]).normal(size=(5, 4, 3)).astype(np.float32)

    return _scan


@pytest.fixture
def mask():
    """A (5, 4, 3) uint8 mask with one lesion of four voxels."""
    array = np.zeros((5, 4, 3), np.uint8)
    array[1:3, 1:3, 1] = 1
    return array
