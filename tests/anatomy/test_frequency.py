from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from segpipe.anatomy import (
    check_space,
    frequency_files,
    frequency_map,
    read_mask,
    region_maps,
)
from segpipe.anatomy.template import mni152_map, sample_at
from segpipe.config import AnatomyConfig, RegionConfig
from segpipe.data.nifti import write_volume
from segpipe.errors import DataError, GeometryError
from segpipe.volume import Volume

GRID = np.diag([2.0, 1.0, 1.0, 1.0])


def put(folder, name, *voxels, shape=(4, 4, 4), affine=GRID):
    mask = np.zeros(shape, np.uint8)
    for voxel in voxels:
        mask[voxel] = 3
    write_volume(folder / f"{name}.nii.gz", Volume(mask, affine))


def names(files):
    return {p: [f.name.split(".")[0] for f in fs] for p, fs in files.counted.items()}


def test_share_of_patients_each_with_the_same_weight(tmp_path):
    put(tmp_path, "a", (1, 1, 1), (2, 2, 2))
    put(tmp_path, "b_1", (1, 1, 1))
    put(tmp_path, "b_2")
    files = frequency_files(tmp_path, (), {}, r"^([a-z])")
    assert names(files) == {"a": ["a"], "b": ["b_1", "b_2"]}
    share = frequency_map(files.counted)
    expected = np.zeros((4, 4, 4))
    expected[1, 1, 1], expected[2, 2, 2] = 0.75, 0.5
    assert np.array_equal(share.array, expected.astype(np.float32))
    assert np.array_equal(share.affine, GRID)


def test_hidden_and_unfinished_files_are_nobodys_masks(tmp_path):
    put(tmp_path, "a", (1, 1, 1))
    for name in ("._a.nii.gz", "b.nii.gz.tmp", "c.nii.json"):
        (tmp_path / name).write_bytes(b"no mask")
    assert names(frequency_files(tmp_path, (), {})) == {"a": ["a"]}
    (tmp_path / "a.nii.gz").unlink()
    with pytest.raises(DataError, match="no lesion masks"):
        frequency_files(tmp_path, (), {})


def test_masks_that_claim_more_voxels_than_allowed_are_refused(tmp_path):
    put(tmp_path, "a", (1, 1, 1))
    counted = {"a": (tmp_path / "a.nii.gz",)}
    assert frequency_map(counted, read=partial(read_mask, max_voxels=64)).array.sum() == 1
    with pytest.raises(DataError, match="more voxels than allowed"):
        frequency_map(counted, read=partial(read_mask, max_voxels=63))


def test_smoothing_is_in_mm_and_loses_what_leaves_the_array(tmp_path):
    put(tmp_path, "a", (4, 8, 8), (0, 8, 8), shape=(9, 17, 17))
    share = frequency_map({"a": (tmp_path / "a.nii.gz",)}, 1.5).array
    point = np.zeros((9, 17, 17))
    point[4, 8, 8] = point[0, 8, 8] = 1
    expected = ndimage.gaussian_filter(point, (0.75, 1.5, 1.5), mode="constant", truncate=3)
    assert np.allclose(share, expected, atol=1e-6)
    assert share.sum() < 1.8


@pytest.mark.parametrize(
    "name", ["lit07", "LIT07", "lit07_lesions", "old-lit07", "session1", "lit07.v2"]
)
def test_a_mask_that_may_be_of_a_held_out_patient_is_left_out(tmp_path, name):
    put(tmp_path, name, (1, 1, 1))
    put(tmp_path, "lit071", (2, 2, 2))  # another patient
    files = frequency_files(tmp_path, {"lit07"}, {"session1": "lit07"})
    assert names(files) == {"lit071": ["lit071"]}
    assert files.held_out == (f"{name}.nii.gz",)


def test_the_pattern_of_the_dataset_names_the_patient(tmp_path):
    put(tmp_path, "xlit07x", (1, 1, 1))
    assert frequency_files(tmp_path, {"lit07"}, {}, r"(lit\d\d)").counted == {}
    assert frequency_files(tmp_path, {"lit08"}, {}, r"(lit\d\d)").counted.keys() == {"lit07"}


def test_no_masks_no_patients_and_other_grids_are_refused(tmp_path):
    with pytest.raises(DataError, match="no lesion masks"):
        frequency_files(tmp_path / "nowhere", (), {})
    with pytest.raises(ValueError, match="at least one patient"):
        frequency_map({})
    put(tmp_path, "a")
    put(tmp_path, "b", affine=np.diag([1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(GeometryError, match=r"b\.nii\.gz.*same grid"):
        frequency_map(frequency_files(tmp_path, (), {}).counted)


def put_on(folder, shape, corner_mm, step_mm):
    affine = np.diag([*step_mm, 1.0])
    affine[:3, 3] = corner_mm
    put(folder, "a", shape=shape, affine=affine)
    return folder / "a.nii.gz"


@pytest.mark.parametrize(
    ("shape", "corner_mm", "step_mm"),
    [
        ((182, 218, 182), (90, -126, -72), (-1, 1, 1)),  # as FSL stores it
        ((181, 217, 181), (-90, -126, -72), (1, 1, 1)),
        ((193, 229, 193), (-96, -132, -78), (1, 1, 1)),
        ((91, 109, 91), (90, -126, -72), (-2, 2, 2)),
        ((113, 144, 123), (-56, -89, -57), (1, 1, 1)),  # the box of a brain of 0.8 the size
    ],
)
def test_masks_on_grids_of_the_template_are_taken(tmp_path, shape, corner_mm, step_mm):
    check_space(put_on(tmp_path, shape, corner_mm, step_mm))


@pytest.mark.parametrize(
    ("shape", "corner_mm", "step_mm"),
    [
        ((182, 218, 182), (0, 0, 0), (1, 1, 1)),  # a header without a place
        ((256, 256, 40), (240, 240, 0), (-0.94, -0.94, 4)),
        ((182, 218, 182), (90, -126, 8), (-1, 1, 1)),  # 80 mm too high
    ],
)
def test_masks_on_grids_that_miss_the_brain_are_refused(tmp_path, shape, corner_mm, step_mm):
    path = put_on(tmp_path, shape, corner_mm, step_mm)
    with pytest.raises(GeometryError, match=r"a\.nii\.gz: the mask does not lie in MNI152 space"):
        check_space(path)


@pytest.fixture(scope="module")
def scan():
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-98, -134, -72]
    grid = Volume(np.zeros((50, 59, 48), np.float32), affine)
    return grid.with_array(1000 * sample_at(mni152_map("t1"), grid))


def region(**more):
    return RegionConfig(name="often", source="frequency", file="masks", **more)


def test_where_lesions_do_not_occur_is_what_the_cut_and_grown_frequency_leaves(scan, tmp_path):
    prior = scan.with_array(np.zeros(scan.shape, np.float32))
    prior.array[20, 20, 20], prior.array[30, 30, 30] = 0.4, 0.1
    config = region(threshold=0.2, margin_mm=4, invert=True, soften_mm=3)
    maps, flags = region_maps(
        "a", scan, AnatomyConfig(regions=(config,)), tmp_path, priors={"often": prior}
    )
    assert flags == ()
    often = np.zeros(scan.shape, bool)
    often[20, 20, 20] = True
    expected = np.where(ndimage.binary_dilation(often), 0, 1)  # a 4 mm margin is one voxel
    assert np.array_equal(maps["often"].array, expected.astype(np.float32))


def test_without_a_prior_the_region_and_its_complement_are_left_out_and_flagged(scan, tmp_path):
    rest = RegionConfig(name="rest", source="complement")
    maps, flags = region_maps("a", scan, AnatomyConfig(regions=(region(), rest)), tmp_path)
    assert maps == {}
    assert flags == (
        "region often: left out, there is no lesion frequency of training patients",
        "region rest: left out, as it is what often leave over",
    )


def test_a_scan_elsewhere_gets_no_frequency(scan, tmp_path):
    away = scan.affine.copy()
    away[1, 3] += 60
    maps, (flag,) = region_maps(
        "a",
        Volume(scan.array, away),
        AnatomyConfig(regions=(region(),)),
        tmp_path,
        priors={"often": scan},
    )
    assert maps == {}
    assert "not in MNI152 space" in flag
