"""What is read from whole files, with nibabel as the oracle."""

import hashlib

import nibabel as nib
import numpy as np
import pytest

from segpipe.data.nifti import file_sha256, read_grid, read_image, read_labels, read_probability
from segpipe.errors import DataError

AFFINE = np.array([[0, -1.5, 0, 9], [0.75, 0, 0, -4], [0, 0, 3, 1], [0, 0, 0, 1]])
TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_order_and_version_is_read(tmp_path, order, kind, dtype):
    array = np.arange(100, 124).reshape(4, 3, 2).astype(dtype)
    header = kind.header_class(endianness=order)
    image = kind(array, AFFINE, header, dtype=array.dtype)
    for name in ("a.nii", "a.nii.gz"):
        image.to_filename(tmp_path / name)
        volume, flags = read_image(tmp_path / name)
        assert volume.array.dtype == np.float32
        assert volume.array.dtype.isnative
        np.testing.assert_array_equal(volume.array, array)
        np.testing.assert_allclose(volume.affine, AFFINE)
        assert flags == ()
        np.testing.assert_array_equal(read_labels(tmp_path / name).array, array)


def test_scaling_is_applied(tmp_path):
    image = nib.Nifti1Image(np.linspace(-3, 5, 24).reshape(4, 3, 2), AFFINE)
    image.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "a.nii")
    volume, _ = read_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(
        volume.array, nib.load(tmp_path / "a.nii").get_fdata().astype("f4")
    )
    np.testing.assert_allclose(volume.array, np.linspace(-3, 5, 24).reshape(4, 3, 2), atol=1e-3)


def test_scaled_labels_are_rounded_within_the_rounding_of_the_scale(tmp_path):
    labels = (np.arange(24) % 2).reshape(4, 3, 2)
    image = nib.Nifti1Image(labels * 255.0, AFFINE)
    image.set_data_dtype(np.uint8)
    data = bytearray(image.to_bytes())
    data[112:116] = np.float32(1 / 255).tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    read = read_labels(tmp_path / "a.nii")
    assert read.array.dtype == np.uint8
    np.testing.assert_array_equal(read.array, labels)


@pytest.mark.parametrize(
    ("value", "dtype"), [(255, np.uint8), (256, np.uint16), (65536, np.int32), (-1, np.int32)]
)
def test_labels_take_the_smallest_type(save, tmp_path, value, dtype):
    array = np.zeros((3, 2, 2), np.float64)
    array[1, 1, 1] = value
    read = read_labels(save(tmp_path / "a.nii", array)).array
    assert read.dtype == dtype
    assert read.max() == max(value, 0)
    assert read.min() == min(value, 0)


def test_trailing_axes_of_length_one_are_dropped_and_channels_kept(save, tmp_path, scan):
    single = save(tmp_path / "a.nii", scan()[..., None, None])
    np.testing.assert_array_equal(read_image(single)[0].array, scan())
    several = save(tmp_path / "b.nii", np.stack([scan(1), scan(2)], -1))
    assert read_image(several)[0].array.shape == (5, 4, 3, 2)
    np.testing.assert_array_equal(read_image(several, index=1)[0].array, scan(2))
    np.testing.assert_array_equal(read_image(single, index=0)[0].array, scan())
    with pytest.raises(DataError, match=r"lacks a channel.*at least 3 channels"):
        read_image(several, index=2)


def test_voxels_that_are_not_finite_are_repaired_on_request_and_flagged(save, tmp_path, scan):
    array = scan()
    array[0, 0, 0], array[1, 1, 1], array[2, 2, 2] = np.nan, np.inf, -np.inf
    path = save(tmp_path / "a.nii", array)
    volume, flags = read_image(path, repair_nan=True)
    assert flags == ("3 voxels that were not finite replaced by 0",)
    np.testing.assert_array_equal(volume.array, np.where(np.isfinite(array), array, 0))


def test_missing_probabilities_are_zero_and_flagged_or_refused(save, tmp_path):
    array = np.full((3, 2, 2), 0.25, np.float32)
    array[0, 0, 0] = np.nan
    path = save(tmp_path / "a.nii", array)
    volume, flags = read_probability(path)
    assert flags == ("1 NaN voxels counted as probability 0",)
    assert volume.array[0, 0, 0] == 0
    assert volume.array.sum() == 0.25 * 11
    with pytest.raises(DataError, match="NaN in 1 of 12 voxels"):
        read_probability(path, strict=True)


def test_sform_goes_before_qform_before_voxel_sizes(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 3, 2), np.uint8), None)
    image.header.set_zooms((2, 2, 2))
    other = AFFINE.copy()
    other[0, 3] += 7
    cases = {
        (2, 4): (AFFINE, "qform and sform differ by 7 mm: sform is used"),
        (2, 0): (other, None),
        (0, 3): (AFFINE, None),
    }
    for codes, (affine, flag) in cases.items():
        image.set_qform(other, code=codes[0])
        image.set_sform(AFFINE, code=codes[1])
        image.header.set_zooms(np.linalg.norm(AFFINE[:3, :3], axis=0))
        image.to_filename(tmp_path / "a.nii")
        volume, flags = read_image(tmp_path / "a.nii")
        np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
        assert volume.form_codes == codes
        assert flags == ((flag,) if flag else ())
    image.set_qform(None, code=0)
    image.set_sform(None, code=0)
    image.to_filename(tmp_path / "a.nii")
    volume, flags = read_image(tmp_path / "a.nii")
    assert volume.axcodes == "LAS"
    assert "assumed to be LAS" in flags[0]


@pytest.mark.parametrize(("stored", "sign"), [(0, 1), (-1, -1), (7, 1), (-3, -1)])
def test_of_the_qform_s_handedness_only_the_sign_counts(tmp_path, stored, sign):
    image = nib.Nifti1Image(np.zeros((4, 3, 2), np.uint8), None)
    for sform in (None, np.diag([2.0, 2, 2 * sign, 1])):
        image.set_qform(np.diag([2.0, 2, 2, 1]), code=1)
        image.set_sform(sform, code=0 if sform is None else 1)
        image.to_filename(tmp_path / "a.nii")
        data = bytearray((tmp_path / "a.nii").read_bytes())
        data[76:80] = np.float32(stored).tobytes()
        (tmp_path / "a.nii").write_bytes(data)
        volume, flags = read_image(tmp_path / "a.nii")
        np.testing.assert_allclose(volume.affine, np.diag([2, 2, 2 * sign, 1]))
        assert flags == ()


def test_a_qform_that_is_no_grid_beside_an_sform_is_said_to_be_none(save, tmp_path, scan):
    data = bytearray(save(tmp_path / "a.nii", scan()).read_bytes())
    data[252:254] = np.int16(1).tobytes()
    data[256:260] = np.float32(np.nan).tobytes()  # quatern_b
    (tmp_path / "a.nii").write_bytes(data)
    _, flags = read_image(tmp_path / "a.nii")
    assert flags == ("the qform is no grid: sform is used",)


def test_voxel_sizes_that_contradict_the_sform_are_flagged(save, tmp_path, scan):
    data = bytearray(save(tmp_path / "a.nii", scan()).read_bytes())
    data[80:84] = np.float32(5).tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    volume, flags = read_image(tmp_path / "a.nii")
    assert volume.spacing_mm == (2, 2, 3)
    assert any("contradict the sform's" in flag for flag in flags)


def test_header_extensions_are_skipped(tmp_path, scan):
    image = nib.Nifti1Image(scan(), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"patient: somebody" * 50))
    for name in ("a.nii", "a.nii.gz"):
        image.to_filename(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name)[0].array, scan())


def test_inputs_are_not_touched(save, tmp_path, scan):
    path = save(tmp_path / "a.nii", scan())
    path.chmod(0o444)
    before = path.read_bytes(), path.stat().st_mtime_ns
    volume, _ = read_image(path)
    volume.array[:] = 0
    read_grid(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_digest_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(DataError, match="cannot be read"):
        file_sha256(tmp_path / "b")
