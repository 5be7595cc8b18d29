import numpy as np
import pytest

from segpipe.anatomy import region_maps
from segpipe.config import AnatomyConfig, RegionConfig
from segpipe.data.nifti import write_volume
from segpipe.errors import DataError, GeometryError
from segpipe.volume import Volume

AFFINE = np.array([[2.0, 0, 0, -10], [0, 1, 0, 5], [0, 0, 3, 0], [0, 0, 0, 1]])


@pytest.fixture
def scan():
    return Volume(np.ones((6, 5, 4, 2), np.float32), AFFINE, (0, 2))


def config(*regions):
    return AnatomyConfig(regions=tuple(RegionConfig(**region) for region in regions))


def random_mask(seed, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 2, (6, 5, 4)).astype(dtype)


def test_mask_of_the_case_lands_on_the_scans_grid(scan, tmp_path):
    mask = random_mask(0)
    write_volume(tmp_path / "masks" / "p7_liver.nii.gz", Volume(mask, AFFINE))
    liver = {"name": "liver", "source": "mask", "file": "masks/{case}_liver.nii.gz"}
    maps, flags = region_maps("p7", scan, config(liver), tmp_path)
    assert flags == ()
    assert np.array_equal(maps["liver"].array, mask)
    assert maps["liver"].array.dtype == np.float32
    assert np.array_equal(maps["liver"].affine, AFFINE)
    assert maps["liver"].form_codes == (0, 2)


def test_mask_stored_flipped_and_permuted_is_turned_back(scan, tmp_path):
    mask = random_mask(1)
    flipped = AFFINE[:, [2, 1, 0, 3]] @ np.diag([1.0, 1, -1, 1])
    flipped[:3, 3] += AFFINE[:3, 0] * 5
    turned = np.ascontiguousarray(mask.transpose(2, 1, 0)[:, :, ::-1])
    write_volume(tmp_path / "a.nii.gz", Volume(turned, flipped))
    regions = config(
        {"name": "m", "source": "mask", "file": "{case}.nii.gz"},
        {"name": "l", "source": "labels", "file": "{case}.nii.gz", "ids": (1,)},
    )
    maps, flags = region_maps("a", scan, regions, tmp_path)
    assert np.array_equal(maps["m"].array, mask)
    assert np.array_equal(maps["l"].array, mask)
    assert flags == tuple(f"region {name}: a.nii.gz: stored SAL, read as RAS" for name in "ml")


def test_labels_join_their_ids(scan, tmp_path):
    labels = np.random.default_rng(2).integers(0, 6, (6, 5, 4)).astype(np.uint8)
    write_volume(tmp_path / "a.nii.gz", Volume(labels, AFFINE))
    maps, _ = region_maps(
        "a",
        scan,
        config({"name": "l", "source": "labels", "file": "{case}.nii.gz", "ids": (2, 5)}),
        tmp_path,
    )
    assert np.array_equal(maps["l"].array, (labels == 2) | (labels == 5))


def test_soft_mask_stays_soft_and_complement_is_what_is_left(scan, tmp_path):
    soft = np.random.default_rng(3).random((6, 5, 4)).astype(np.float32)
    hard = random_mask(4)
    write_volume(tmp_path / "s.nii.gz", Volume(soft, AFFINE))
    write_volume(tmp_path / "h.nii.gz", Volume(hard, AFFINE))
    regions = config(
        {"name": "outside", "source": "complement"},
        {"name": "s", "source": "mask", "file": "s.nii.gz", "floor": 0.25},
        {"name": "h", "source": "mask", "file": "h.nii.gz"},
    )
    maps, flags = region_maps("a", scan, regions, tmp_path)
    assert list(maps) == ["outside", "s", "h"]
    assert flags == ()
    assert np.allclose(maps["s"].array, soft)  # the floor is the weight's alone
    assert np.allclose(maps["outside"].array, 1 - np.maximum(soft, hard))


def test_margin_uses_the_scans_spacing(scan, tmp_path):
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[3, 2, 1] = 1
    write_volume(tmp_path / "a.nii.gz", Volume(mask, AFFINE))
    region = {"name": "m", "source": "mask", "file": "a.nii.gz", "margin_mm": 2.0}
    grown = region_maps("a", scan, config(region), tmp_path)[0]["m"].array
    expected = np.zeros((6, 5, 4))
    expected[2:5, 2, 1] = 1  # 2 mm voxels
    expected[3, :, 1] = 1  # 1 mm voxels; the 3 mm axis is out of reach
    assert np.array_equal(grown, expected)


@pytest.mark.parametrize("source", ["mask", "template"])
def test_a_map_with_channels_is_refused(scan, tmp_path, source):
    write_volume(tmp_path / "a.nii.gz", Volume(np.ones((6, 5, 4, 3), np.float32), AFFINE))
    region = {"name": "m", "source": source, "file": "a.nii.gz"}
    with pytest.raises(DataError, match=r"a\.nii\.gz: a region map with channels; expected 3 axes"):
        region_maps("a", scan, config(region), tmp_path)


def test_missing_file_is_an_error_that_says_what_to_do(scan, tmp_path):
    region = {"name": "brain", "source": "mask", "file": "anatomy/{case}.nii.gz"}
    with pytest.raises(DataError, match=r"p7\.nii\.gz.*region brain.*optional") as caught:
        region_maps("p7", scan, config(region), tmp_path)
    assert caught.value.where == str(tmp_path / "anatomy" / "p7.nii.gz")


def test_missing_optional_file_flags_the_region_and_its_complement(scan, tmp_path):
    write_volume(tmp_path / "h.nii.gz", Volume(random_mask(5), AFFINE))
    regions = config(
        {"name": "b", "source": "mask", "file": "{case}.nii.gz", "optional": True},
        {"name": "h", "source": "mask", "file": "h.nii.gz"},
        {"name": "outside", "source": "complement"},
    )
    maps, flags = region_maps("p7", scan, regions, tmp_path)
    assert list(maps) == ["h"]
    assert flags == (
        "region b: left out, p7.nii.gz does not exist",
        "region outside: left out, as it is what b leave over",
    )


def test_mask_on_another_grid_is_refused_with_its_path(scan, tmp_path):
    shifted = AFFINE.copy()
    shifted[0, 3] += 1
    write_volume(tmp_path / "a.nii.gz", Volume(random_mask(6), shifted))
    region = config({"name": "m", "source": "mask", "file": "a.nii.gz"})
    with pytest.raises(GeometryError, match=r"a\.nii\.gz.*same grid"):
        region_maps("a", scan, region, tmp_path)
    assert "m" in region_maps("a", scan, region, tmp_path, tolerance_mm=1.5)[0]


@pytest.mark.parametrize(
    "region",
    [
        {"source": "mask", "file": "m.nii.gz"},
        {"source": "labels", "file": "m.nii.gz", "ids": (1,)},
        {"source": "template", "file": "m.nii.gz"},
    ],
)
def test_files_that_claim_more_voxels_than_allowed_are_refused(scan, tmp_path, region):
    write_volume(tmp_path / "m.nii.gz", Volume(random_mask(7), AFFINE))
    regions = config({"name": "m", **region})
    maps, flags = region_maps("a", scan, regions, tmp_path, max_voxels=120)
    assert "m" in maps or "not in MNI152 space" in flags[0]
    with pytest.raises(DataError, match="more voxels than allowed"):
        region_maps("a", scan, regions, tmp_path, max_voxels=119)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({"source": "labels", "ids": (4, 43)}, "empty: {} has none of the labels 4, 43"),
        ({"source": "mask"}, "empty: {} is 0 everywhere"),
    ],
)
def test_a_region_that_is_nowhere_is_flagged(scan, tmp_path, region, said):
    path = tmp_path / "a.nii.gz"
    values = np.zeros((6, 5, 4), np.uint8)
    if region["source"] != "mask":
        values[2, 2, 2] = 1
    write_volume(path, Volume(values, AFFINE))
    regions = config({"name": "x", "file": "{case}.nii.gz", **region})
    maps, flags = region_maps("a", scan, regions, tmp_path)
    assert not maps["x"].array.any()
    assert flags[-1] == f"region x: {said.format(path.name)}"


@pytest.mark.parametrize(
    ("first", "rest", "said"),
    [
        ({"margin_mm": -50}, {}, "region x: empty: its threshold, margin_mm or invert leave"),
        ({"margin_mm": 50}, {}, "region rest: empty: the others fill the scan"),
        ({}, {"margin_mm": -50}, "region rest: empty: its threshold, margin_mm or invert leave"),
    ],
)
def test_a_region_that_its_settings_empty_is_flagged(scan, tmp_path, first, rest, said):
    values = np.zeros((6, 5, 4), np.uint8)
    values[2:4, 2:4, 1:3] = 1
    write_volume(tmp_path / "a.nii.gz", Volume(values, AFFINE))
    regions = config(
        {"name": "x", "source": "mask", "file": "{case}.nii.gz", **first},
        {"name": "rest", "source": "complement", **rest},
    )
    maps, flags = region_maps("a", scan, regions, tmp_path)
    (flag,) = flags
    assert flag.startswith(said)
    assert not maps[said.split(":")[0].removeprefix("region ")].array.any()


def test_a_mask_of_0_and_255_is_told_what_to_do_with_masks(scan, tmp_path):
    write_volume(tmp_path / "a.nii.gz", Volume(255 * random_mask(0), AFFINE))
    brain = config({"name": "x", "source": "mask", "file": "{case}.nii.gz"})
    with pytest.raises(DataError, match=r"received 0 to 255\. Write 1 inside, .* source labels"):
        region_maps("a", scan, brain, tmp_path)


def test_what_is_rare_is_not_grown_before_it_is_cut():
    often = {"name": "often", "source": "frequency", "margin_mm": 3}
    with pytest.raises(ValueError, match=r"margin_mm\s.*expected a threshold too, such as 0\.01"):
        RegionConfig(**often)
    assert RegionConfig(**often, threshold=0.01).margin_mm == 3
    assert RegionConfig(**{**often, "source": "template", "file": "wm"}).margin_mm == 3


def test_no_regions_no_maps(scan, tmp_path):
    assert region_maps("a", scan, AnatomyConfig(), tmp_path) == ({}, ())
