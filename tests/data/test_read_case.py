import nibabel as nib
import numpy as np
import pytest

from segpipe.config import DataConfig
from segpipe.data.layouts import Case, ChannelFile
from segpipe.data.read import on_grid, read_case
from segpipe.errors import DataError, GeometryError
from segpipe.volume import Volume

LABELS = {"lesion": 1}


@pytest.fixture
def case(tmp_path, save, scan, mask):
    flair = save(tmp_path / "flair.nii.gz", scan(1))
    t1 = save(tmp_path / "t1.nii.gz", scan(2))
    reference = save(tmp_path / "mask.nii.gz", mask)
    return Case("a", "a", (ChannelFile(flair), ChannelFile(t1)), reference)


@pytest.fixture
def config(tmp_path):
    return DataConfig(root=tmp_path)


def turn(path, turns):
    nib.load(path).as_reoriented(np.array(turns)).to_filename(path)


def test_channels_last_and_reference_on_one_grid(case, config, scan, mask):
    loaded = read_case(case, LABELS, config)
    assert loaded.image.array.dtype == np.float32
    np.testing.assert_array_equal(loaded.image.array, np.stack([scan(1), scan(2)], -1))
    np.testing.assert_array_equal(loaded.reference.array, mask)
    np.testing.assert_array_equal(loaded.reference.affine, loaded.image.affine)
    assert loaded.case is case
    assert loaded.flags == ()


def test_other_storage_orders_are_undone_and_flagged(case, config, scan, mask):
    turn(case.channels[1].path, [[0, 1], [1, -1], [2, 1]])
    turn(case.reference, [[2, 1], [0, 1], [1, -1]])
    loaded = read_case(case, LABELS, config)
    np.testing.assert_array_equal(loaded.image.array[..., 1], scan(2))
    np.testing.assert_array_equal(loaded.reference.array, mask)
    assert loaded.flags == (
        "t1.nii.gz: stored LPS, read as LAS",
        "mask.nii.gz: stored AIL, read as LAS",
    )


def test_an_oblique_file_that_is_not_turned_is_not_flagged(tmp_path):
    like = np.eye(4)
    like[:2, :2] = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    near = like.copy()
    near[:2, :2] += [[-1e-4, 1e-4], [-1e-4, -1e-4]]
    array = np.arange(24).reshape(4, 3, 2)
    one, other = Volume(array, like), Volume(array, near)
    assert one.axcodes != other.axcodes
    aligned, flags = on_grid(other, one, tmp_path / "a.nii")
    assert (aligned.array is array, flags) == (True, ())


def test_the_first_channel_gives_the_grid(case, config, scan):
    turn(case.channels[0].path, [[0, -1], [1, 1], [2, 1]])
    loaded = read_case(case, LABELS, config)
    assert loaded.image.axcodes == "RAS"
    np.testing.assert_array_equal(loaded.image.array[..., 1], scan(2)[::-1])


@pytest.mark.parametrize("which", ["t1.nii.gz", "mask.nii.gz"])
def test_other_grids_raise_with_the_file_and_both_grids(case, config, save, tmp_path, mask, which):
    save(tmp_path / which, mask, np.diag([-2, 2, 3.5, 1]))
    with pytest.raises(GeometryError) as caught:
        read_case(case, LABELS, config)
    message = str(caught.value)
    assert str(tmp_path / which) in message
    assert "spacing 2×2×3 mm" in message
    assert "spacing 2×2×3.5 mm" in message


def test_tolerance_is_configurable(case, config, save, scan):
    path = case.channels[1].path
    shifted = nib.load(path).affine
    shifted[0, 3] += 0.08
    save(path, scan(2), shifted)
    with pytest.raises(GeometryError):
        read_case(case, LABELS, config)
    wide = config.model_copy(update={"grid_tolerance_mm": 0.1})
    assert read_case(case, LABELS, wide).image.array.shape == (5, 4, 3, 2)


def test_labels_must_be_declared(case, config, save, mask):
    save(case.reference, mask * 3)
    with pytest.raises(DataError, match=r"expected 0, lesion=1; received 3 \(4 voxels\)"):
        read_case(case, LABELS, config)
    assert read_case(case, {"x": 3}, config).reference.array.max() == 3
    ignoring = config.model_copy(update={"ignore_label": 3})
    assert read_case(case, LABELS, ignoring).reference.array.max() == 3


def test_an_empty_reference_is_fine_and_none_is_none(case, config, save, mask):
    save(case.reference, mask * 0)
    assert read_case(case, LABELS, config).reference.array.max() == 0
    without = Case("a", "a", case.channels)
    assert read_case(without, LABELS, config).reference is None


def test_a_time_series_is_no_channel(case, config, save, scan):
    save(case.channels[0].path, np.stack([scan(1), scan(2)], -1))
    with pytest.raises(DataError, match="expected a 3-D image"):
        read_case(case, LABELS, config)


def test_settings_reach_the_reader(case, config, save, scan):
    bad = scan(1)
    bad[0, 0, 0] = np.nan
    save(case.channels[0].path, bad)
    with pytest.raises(DataError, match="not finite"):
        read_case(case, LABELS, config)
    repairing = config.model_copy(update={"repair_nan": True})
    assert read_case(case, LABELS, repairing).flags == (
        "flair.nii.gz: 1 voxels that were not finite replaced by 0",
    )
    with pytest.raises(DataError, match="more voxels than allowed"):
        read_case(case, LABELS, repairing.model_copy(update={"max_voxels": 59}))
