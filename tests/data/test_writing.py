"""What is written is what is read, and nothing is ever half there."""

import gzip
import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.transform import Rotation

from segpipe.data import writing
from segpipe.data.nifti import read_image, read_labels, write_volume
from segpipe.errors import DataError, StorageError
from segpipe.volume import Volume, same_grid

AFFINE = np.array([[-1.0, 0, 0, 90], [0, 1, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]])
SHAPES = npst.array_shapes(min_dims=3, max_dims=3, max_side=6)
FINITE = npst.arrays(np.float32, SHAPES, elements=st.floats(-(2.0**100), 2.0**100, width=32))
WHOLE = st.sampled_from([np.uint8, np.uint16, np.int32]).flatmap(
    lambda dtype: npst.arrays(dtype, SHAPES)
)


@st.composite
def affines(draw):
    """Rotation, flips and spacing as scanners make them."""
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.2, 10)] * 3))
    flip = draw(st.sampled_from([-1, 1]))
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.diag(np.array(spacing) * [flip, 1, 1])
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


CODES = st.sampled_from([(1, 1), (0, 2), (2, 0), (4, 4), (1, 3)])


@settings(max_examples=60, deadline=None)
@given(FINITE | WHOLE, affines(), CODES, st.sampled_from([".nii", ".nii.gz"]))
def test_what_is_written_is_read(array, affine, codes, ending):
    volume = Volume(array, affine, codes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{ending}"
        write_volume(path, volume)
        assert os.listdir(folder) == [path.name]
        back = read_image(path)[0] if array.dtype.kind == "f" else read_labels(path)
        oracle = nib.load(path)
        assert oracle.get_data_dtype() == array.dtype
        np.testing.assert_array_equal(np.asarray(oracle.dataobj), array)
    np.testing.assert_array_equal(back.array, array)
    assert same_grid(back, volume, tolerance_mm=2e-3)
    assert back.form_codes == codes


def test_affine_of_a_file_survives_exactly(save, tmp_path, scan):
    first, _ = read_image(save(tmp_path / "a.nii", scan(), AFFINE))
    write_volume(tmp_path / "b.nii.gz", first)
    second, _ = read_image(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(first.affine, second.affine)


def test_shear_is_kept_although_a_quaternion_holds_none(tmp_path, scan):
    sheared = AFFINE.copy()
    sheared[0, 2] = 0.7
    write_volume(tmp_path / "a.nii", Volume(scan(), sheared, (1, 0)))
    volume, _ = read_image(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine, sheared, atol=1e-6)


def test_orientation_without_codes_is_kept_where_the_standard_implies_it(tmp_path, scan):
    image = nib.Nifti1Image(scan(), None)
    image.header["qform_code"] = image.header["sform_code"] = 0
    image.to_filename(tmp_path / "a.nii")
    first, _ = read_image(tmp_path / "a.nii")
    write_volume(tmp_path / "b.nii", first)
    second, _ = read_image(tmp_path / "b.nii")
    assert second.form_codes == (0, 0)
    assert same_grid(first, second)


def test_same_volume_same_bytes_whatever_the_name_and_memory_order(tmp_path, scan):
    write_volume(tmp_path / "a.nii.gz", Volume(scan(), AFFINE))
    write_volume(tmp_path / "other.nii.gz", Volume(np.asfortranarray(scan()), AFFINE))
    data = (tmp_path / "a.nii.gz").read_bytes()
    assert data == (tmp_path / "other.nii.gz").read_bytes()
    assert data[4:8] == bytes(4)  # no time
    assert data[3] == 0  # no file name


def test_header_is_fresh(tmp_path, mask):
    write_volume(tmp_path / "a.nii.gz", Volume(mask, AFFINE, (2, 4)))
    header = nib.load(tmp_path / "a.nii.gz").header
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        assert header[field].item() == b""
    assert header.get_xyzt_units()[0] == "mm"
    assert len(header.extensions) == 0
    assert len(gzip.decompress((tmp_path / "a.nii.gz").read_bytes())) == 352 + mask.size


def test_long_axes_and_channels(tmp_path):
    long = np.zeros((40_000, 1, 1), np.uint8)
    long[-1] = 7
    write_volume(tmp_path / "a.nii", Volume(long, AFFINE))
    assert isinstance(nib.load(tmp_path / "a.nii"), nib.Nifti2Image)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.nii").array, long)
    channels = np.arange(48, dtype=np.float32).reshape(4, 3, 2, 2)
    write_volume(tmp_path / "b.nii.gz", Volume(channels, AFFINE))
    np.testing.assert_array_equal(read_image(tmp_path / "b.nii.gz")[0].array, channels)


def test_large_arrays_are_written_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_CHUNK_VOXELS", 7)
    array = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    write_volume(tmp_path / "a.nii", Volume(array, AFFINE))
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii")[0].array, array)


@pytest.mark.parametrize(
    ("given_type", "asked", "written"),
    [
        (bool, None, np.uint8),
        (np.int64, None, np.int32),
        (np.float64, None, np.float32),
        (np.float32, np.uint8, np.uint8),
        (np.int8, None, np.int32),
        (np.uint8, np.float32, np.float32),
    ],
)
def test_types(tmp_path, given_type, asked, written):
    array = np.array([0, 1, 1, 0]).astype(given_type).reshape(4, 1, 1)
    write_volume(tmp_path / "a.nii", Volume(array, AFFINE), dtype=asked)
    image = nib.load(tmp_path / "a.nii")
    assert image.get_data_dtype() == written
    np.testing.assert_array_equal(np.asarray(image.dataobj), array)


@pytest.mark.parametrize(
    ("value", "given_type", "asked", "says"),
    [
        (256, np.int32, np.uint8, "do not fit uint8"),
        (-1, np.int32, np.uint16, "do not fit uint16"),
        (0.5, np.float32, np.uint8, "do not fit uint8"),
        (2**40, np.int64, None, "do not fit int32"),
        (1e300, np.float64, None, "do not fit float32"),
        (np.nan, np.float32, None, "not finite"),
        (np.inf, np.float32, np.uint8, "not finite"),
        (1, np.uint8, np.float64, "unsupported type to write"),
    ],
)
def test_values_that_cannot_be_kept_are_refused(tmp_path, value, given_type, asked, says):
    array = np.full((2, 2, 2), value, given_type)
    with pytest.raises(DataError, match=says):
        write_volume(tmp_path / "a.nii", Volume(array, AFFINE), dtype=asked)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch, mask, moment):
    path = tmp_path / "a.nii.gz"
    write_volume(path, Volume(mask, AFFINE))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    if moment == "write":
        monkeypatch.setattr(writing, "_write_bytes", full)
    else:
        monkeypatch.setattr(os, moment, full)
    with pytest.raises(StorageError, match=r"cannot be written.*No space left"):
        write_volume(path, Volume(1 - mask, AFFINE))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.nii.gz"]


def test_names_that_cannot_be_written(tmp_path, mask):
    with pytest.raises(DataError, match=r"ending .nii or .nii.gz"):
        write_volume(tmp_path / "a.img", Volume(mask, AFFINE))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_volume(tmp_path / "file" / "a.nii", Volume(mask, AFFINE))
    write_volume(tmp_path / "new" / "folder" / "a.nii", Volume(mask, AFFINE))
    assert (tmp_path / "new" / "folder" / "a.nii").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    current = os.umask(0)
    os.umask(current)
    return current
