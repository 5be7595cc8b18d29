from itertools import pairwise

import numpy as np
import pytest

from segpipe.anatomy import mni152_dice, mni152_map, region_maps
from segpipe.anatomy.template import brain_seen, sample_at
from segpipe.config import AnatomyConfig, RegionConfig
from segpipe.data.nifti import write_volume
from segpipe.errors import DataError
from segpipe.volume import Volume


def template_scan(spacing_mm=4.0, shift_mm=(0.0, 0.0, 0.0), signs=(1, 1, 1)):
    """The template's T1, stored on a coarser grid and moved in the world."""
    size = np.array([196.0, 232.0, 188.0])
    affine = np.diag([*(spacing_mm * np.array(signs)), 1.0])
    affine[:3, 3] = np.where(np.array(signs) > 0, [-98, -134, -72], size - [98, 134, 72])
    grid = Volume(np.zeros(tuple(int(n) for n in size // spacing_mm + 1), np.float32), affine)
    t1 = sample_at(mni152_map("t1"), grid)
    moved = affine.copy()
    moved[:3, 3] += shift_mm
    return Volume(1000 * t1, moved)


def wm_region(**more):
    return AnatomyConfig(regions=(RegionConfig(name="wm", source="template", file="wm", **more),))


def test_maps_hold_the_known_tissue_at_known_places():
    def at(name, x, y, z):
        template = mni152_map(name)
        i, j, k = np.rint(np.linalg.inv(template.affine) @ [x, y, z, 1]).astype(int)[:3]
        return template.array[i, j, k]

    assert at("wm", 26, -30, 28) > 0.9  # centrum semiovale
    assert at("gm", 0, -15, 5) > 0.2  # thalamus
    assert at("csf", -14, -20, 22) > 0.9  # lateral ventricle
    assert at("brain", -14, -20, 22) == 1
    assert at("brain", 0, 0, 110) == 0
    assert 1.7e6 < mni152_map("brain").array.sum() < 2.1e6  # mm³


def test_unknown_map_is_refused():
    with pytest.raises(ValueError, match="expected one of t1, gm"):
        mni152_map("skull")


def test_sampling_is_linear_in_world_coordinates_and_zero_outside():
    ramp = Volume(np.arange(5, dtype=np.float32).reshape(5, 1, 1), np.diag([2.0, 1, 1, 1]))
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 9
    like = Volume(np.zeros((11, 1, 1), np.float32), flipped)
    values = sample_at(ramp, like).ravel()
    assert values[1:10].tolist() == [4, 3.5, 3, 2.5, 2, 1.5, 1, 0.5, 0]
    assert values[10] == 0


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1)])
def test_a_brain_in_template_space_overlaps_whatever_its_orientation(signs):
    assert mni152_dice(template_scan(signs=signs)) > 0.97


def test_overlap_falls_with_the_shift():
    dice = [mni152_dice(template_scan(shift_mm=(0, s, 0))) for s in (0, 10, 25, 60)]
    assert all(a > b for a, b in pairwise(dice))
    assert dice[2] < 0.90


def test_overlap_of_nothing_is_zero():
    scan = template_scan()
    assert mni152_dice(scan.with_array(np.zeros_like(scan.array))) == 0


def test_template_region_is_sampled_on_the_scans_grid(tmp_path):
    scan = template_scan(signs=(-1, 1, 1))
    maps, flags = region_maps("a", scan, wm_region(), tmp_path)
    assert flags == ()
    voxel = np.rint(np.linalg.inv(scan.affine) @ [26, -30, 28, 1]).astype(int)[:3]
    assert maps["wm"].array[tuple(voxel)] > 0.9
    assert maps["wm"].shape == scan.shape


def test_scan_elsewhere_goes_on_without_and_the_flag_names_the_value(tmp_path):
    scan = template_scan(shift_mm=(0, 60, 0))
    maps, (flag,) = region_maps("a", scan, wm_region(), tmp_path)
    assert maps == {}
    assert flag.startswith("region wm: left out, the scan is not in MNI152 space")
    assert f"{mni152_dice(scan):.2f}" in flag


def test_own_template_file(tmp_path):
    scan = template_scan()
    atlas = np.zeros((3, 3, 3), np.float32)
    atlas[1, 1, 1] = 0.8
    affine = np.diag([40.0, 40, 40, 1])
    affine[:3, 3] = -40
    write_volume(tmp_path / "frequency.nii.gz", Volume(atlas, affine))
    region = RegionConfig(name="f", source="template", file="frequency.nii.gz")
    maps, _ = region_maps("a", scan, AnatomyConfig(regions=(region,)), tmp_path)
    assert maps["f"].array.max() == pytest.approx(0.8, abs=0.08)
    assert maps["f"].array[0, 0, 0] == 0
    missing = RegionConfig(name="f", source="template", file="other.nii.gz")
    with pytest.raises(DataError, match="gm, wm, csf, brain"):
        region_maps("a", scan, AnatomyConfig(regions=(missing,)), tmp_path)


def test_grids_that_share_the_brain_out_see_all_of_it_between_them():
    def seen(shape, corner_mm, turn):
        affine = np.eye(4)
        affine[:3, :3] = np.array(turn)
        affine[:3, 3] = corner_mm
        return brain_seen(Volume(np.zeros(shape, np.uint8), affine))

    upright, turned = np.eye(3), [[0, 1, 0], [0, 0, -1], [1, 0, 0]]
    low = seen((200, 240, 80), (-98, -134, -72), upright)
    high = seen((112, 200, 240), (-98, 105, 8), turned)
    assert 0.2 < low < high < 0.8
    assert low + high == pytest.approx(1, abs=1e-12)
    assert seen((200, 240, 192), (-98, -134, -72), upright) == 1
    assert seen((200, 240, 192), (98, -134, -72), upright) == 0
