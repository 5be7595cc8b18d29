import numpy as np
import pytest

from segpipe.anatomy import mni152_map
from segpipe.anatomy.scan_brain import acquired, brain_level, dice, own_brain, shrink
from segpipe.anatomy.template import sample_at, template_lattice
from segpipe.volume import Volume


def test_empty_slices_beside_full_ones_were_not_acquired():
    array = np.zeros((6, 6, 10), np.float32)
    array[:, :, 2:7] = 100
    array[0, 0, 0] = -5
    scan = Volume(array, np.diag([1.0, 2, 3, 1]))
    cut = acquired(scan)
    assert cut.shape == (6, 6, 5)
    assert cut.affine[:3, 3].tolist() == [0, 0, 6]
    assert cut.array.min() >= 0


def test_darkness_around_a_stripped_brain_stays():
    index = np.indices((20, 20, 20)) - 9.5
    ball = (np.linalg.norm(index, axis=0) < 7).astype(np.float32)
    assert acquired(Volume(ball, np.eye(4))).shape == (20, 20, 20)


def test_shrinking_keeps_the_mean_where_it_was():
    rng = np.random.default_rng(0)
    affine = np.array([[0, 1.5, 0, 3], [-1, 0, 0, 4], [0, 0, 6, 5], [0, 0, 0, 1.0]])
    volume = Volume(rng.random((8, 6, 3)), affine)
    small = shrink(volume, 4.0)
    assert small.shape == (2, 3, 3)  # 4 × 1 mm, 2 × 1.5 mm, and 6 mm as they are
    assert small.array[1, 2, 0] == pytest.approx(volume.array[4:8, 4:6, 0].mean())
    expected = affine @ [5.5, 4.5, 0, 1]
    assert np.allclose(small.affine @ [1, 2, 0, 1], expected)


@pytest.fixture(scope="module")
def head():
    """A brain of 100, dark skull, scalp of 300, and neck muscle of 60, at 3 mm."""
    grid = template_lattice(3.0, 27.0)
    brain = sample_at(mni152_map("brain"), grid) > 0.5
    from scipy import ndimage

    away = ndimage.distance_transform_edt(~brain, sampling=3.0)
    array = np.where(brain, 100.0, 0.0)
    array[(away > 9) & (away < 18)] = 300
    array[:, :, :6][~brain[:, :, :6] & (away[:, :, :6] >= 18)] = 60
    return grid.with_array(array.astype(np.float32)), brain


def test_the_own_brain_is_found_inside_its_skull(head):
    scan, brain = head
    assert brain_level(scan, np.eye(4)) == 100
    found = own_brain(scan, np.eye(4))
    assert dice(found, brain) > 0.97
    moved = np.eye(4)
    moved[:3, 3] = [4, -5, 3]  # only roughly registered
    assert dice(own_brain(scan, moved), brain) > 0.95


def test_nothing_is_found_where_there_is_nothing(head):
    scan, _ = head
    empty = scan.with_array(np.zeros_like(scan.array))
    assert np.isnan(brain_level(empty, np.eye(4)))
    assert not own_brain(empty, np.eye(4)).any()
    away = np.eye(4)
    away[2, 3] = 1000
    assert not own_brain(scan, away).any()
    nothing = np.zeros((2, 2, 2), bool)
    assert np.isnan(dice(nothing, nothing))
