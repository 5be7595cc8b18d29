"""The corpus of bad images: every row is one way to be wrong, with what must be said of it."""

import gzip
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest

from segpipe.data.nifti import (
    read_grid,
    read_image,
    read_labels,
    read_probability,
    read_region,
)
from segpipe.errors import DataError

SHAPE = (4, 3, 2)


def nifti1(array=None, **patches):
    """Bytes of a valid NIfTI-1 file with some header fields overwritten."""
    array = np.arange(24, dtype=np.int16).reshape(SHAPE) if array is None else array
    header = nib.Nifti1Image(array, np.diag([1.0, 2, 3, 1])).to_bytes()
    return patched(header, nib.Nifti1Header, patches)


def nifti2(**patches):
    array = np.arange(24, dtype=np.int16).reshape(SHAPE)
    return patched(
        nib.Nifti2Image(array, np.diag([1.0, 2, 3, 1])).to_bytes(), nib.Nifti2Header, patches
    )


def patched(whole, kind, patches):
    size = kind.sizeof_hdr
    header = kind(whole[:size], check=False)
    for field, value in patches.items():
        header.structarr[field] = value
    return header.structarr.tobytes() + whole[size:]


def with_dim(count, *lengths, **patches):
    return nifti1(dim=[count, *lengths, *[1] * (7 - len(lengths))], **patches)


def damaged(data, position, value=0xFF):
    broken = bytearray(data)
    broken[position] ^= value
    return bytes(broken)


def zipped(data):
    return gzip.compress(data, mtime=0)


SCALED = {"scl_slope": 2.0, "scl_inter": 0.0}
FLOATS = np.linspace(0, 1, 24, dtype=np.float32).reshape(SHAPE)
FOUR = np.ones((*SHAPE, 2), np.float32)
NO_SFORM = {"sform_code": 0, "qform_code": 1}


def holding(value, dtype=np.float32):
    array = np.zeros(SHAPE, dtype)
    array[1, 2, 1] = value
    return nifti1(array)


@dataclass(frozen=True)
class Bad:
    """A bad file: what causes it, its bytes, and words of the error."""

    cause: str
    data: Callable[[], bytes]
    says: str
    ending: str = ".nii"
    read: Callable = read_image


def gz(cause, data, says, read=read_image):
    return Bad(cause, data, says, ".nii.gz", read)


BAD = [
    # not an image
    Bad("empty file", lambda: b"", "an empty file"),
    gz("empty file", lambda: b"", "an empty file"),
    gz("empty stream", lambda: zipped(b""), "an empty file"),
    Bad("not NIfTI", lambda: b"<html>404 not found</html>" * 40, "not a NIfTI image"),
    gz("not NIfTI", lambda: zipped(bytes(1000)), "not a NIfTI image"),
    Bad("header size", lambda: nifti1(sizeof_hdr=349), "not a NIfTI image"),
    Bad("wrong ending", nifti1, "unknown kind of file", ".img"),
    Bad("wrong ending", nifti1, "unknown kind of file", ".hdr"),
    Bad("wrong ending", nifti1, "unknown kind of file", ".dcm"),
    Bad("wrong ending", nifti1, "unknown kind of file", ""),
    Bad("gzip named .nii", lambda: zipped(nifti1()), "content and name contradict"),
    gz("plain named .nii.gz", nifti1, "content and name contradict"),
    Bad("Analyze", lambda: nifti1(magic=b""), "Analyze 7.5"),
    Bad("half of a pair", lambda: nifti1(magic=b"ni1"), "half of a .hdr/.img pair"),
    Bad("damaged magic", lambda: nifti1(magic=b"n+7"), "signature is damaged"),
    Bad("damaged magic", lambda: nifti2(eol_check=[10, 10, 26, 10]), "signature is damaged"),
    # axes
    Bad("number of axes", lambda: with_dim(0, 4, 3, 2), "impossible number of axes"),
    Bad("number of axes", lambda: with_dim(-3, 4, 3, 2), "impossible number of axes"),
    Bad("number of axes", lambda: with_dim(8, 4, 3, 2), "impossible number of axes"),
    Bad("too few axes", lambda: with_dim(2, 12, 2), "wrong number of axes"),
    Bad("too many axes", lambda: with_dim(5, 4, 3, 1, 1, 2), "wrong number of axes"),
    Bad("axis without voxels", lambda: with_dim(3, 4, 0, 2), "an axis without voxels"),
    Bad("axis without voxels", lambda: with_dim(3, 4, -3, 2), "an axis without voxels"),
    Bad("axis without voxels", lambda: nifti2(dim=[3, 4, -(2**60), 2, 1, 1, 1, 1]), "without"),
    # size claims
    Bad("claims more than the file", lambda: with_dim(3, 4, 3, 3), "holds less"),
    Bad("claims terabytes", lambda: with_dim(3, 1000, 1000, 2000), "holds less"),
    gz("claims terabytes", lambda: zipped(with_dim(3, 1000, 1000, 2000)), "holds less"),
    Bad("over the cap", lambda: with_dim(3, 32767, 32767, 32767), "more voxels than allowed"),
    gz("over the cap", lambda: zipped(nifti2(dim=[3, *[2**60] * 3, 1, 1, 1, 1])), "more voxels"),
    gz("claims more than the stream", lambda: zipped(with_dim(3, 4, 3, 3)), "holds less"),
    Bad("holds more than claimed", lambda: nifti1() + b"\0", "holds more"),
    Bad("holds more than claimed", lambda: with_dim(3, 4, 3, 1), "holds more"),
    gz("expands further than claimed", lambda: zipped(nifti1() + bytes(10**7)), "holds more"),
    gz("expands further than claimed", lambda: zipped(with_dim(3, 4, 3, 1)), "holds more"),
    gz("second gzip member", lambda: zipped(nifti1()) + zipped(b"more"), "holds more"),
    # damaged streams
    Bad("cut header", lambda: nifti1()[:2], "not a NIfTI image"),
    Bad("cut header", lambda: nifti1()[:347], "the header is cut off"),
    Bad("cut header", lambda: nifti2()[:539], "the header is cut off"),
    gz("cut header", lambda: zipped(nifti1()[:200]), "the header is cut off"),
    Bad("cut voxels", lambda: nifti1()[:-1], "holds less"),
    gz("cut stream", lambda: zipped(nifti1())[:-9], "cannot be read"),
    gz("cut checksum", lambda: zipped(nifti1())[:-3], "cannot be read"),
    gz("wrong checksum", lambda: damaged(zipped(nifti1()), -8), "CRC check failed"),
    gz("wrong length", lambda: damaged(zipped(nifti1()), -4), "length"),
    gz("damaged stream", lambda: damaged(zipped(nifti1()), 14), "cannot be read"),
    gz("garbage after the stream", lambda: zipped(nifti1()) + b"junk", "cannot be read"),
    # fields
    Bad("unknown type", lambda: nifti1(datatype=0), "unsupported data type"),
    Bad("unknown type", lambda: nifti1(datatype=25399), "unsupported data type"),
    Bad("1-bit type", lambda: nifti1(datatype=1, bitpix=1), "1-bit"),
    Bad("complex type", lambda: nifti1(datatype=32, bitpix=64), "complex64"),
    Bad("colour type", lambda: nifti1(datatype=128, bitpix=24), "RGB"),
    Bad("long float type", lambda: nifti1(datatype=1536, bitpix=128), "float128"),
    Bad("bits per voxel", lambda: nifti1(bitpix=32), "contradict each other"),
    Bad("voxel offset", lambda: nifti1(vox_offset=np.nan), "position of the voxels"),
    Bad("voxel offset", lambda: nifti1(vox_offset=np.inf), "position of the voxels"),
    Bad("voxel offset", lambda: nifti1(vox_offset=-352), "position of the voxels"),
    Bad("voxel offset", lambda: nifti1(vox_offset=348), "position of the voxels"),
    Bad("voxel offset", lambda: nifti1(vox_offset=352.5), "position of the voxels"),
    Bad("voxel offset", lambda: nifti1(vox_offset=1e30), "holds less"),
    gz("voxel offset", lambda: zipped(nifti1(vox_offset=1e5)), "holds less"),
    Bad("scaling", lambda: nifti1(scl_slope=np.inf), "impossible scaling"),
    Bad("scaling", lambda: nifti1(scl_slope=2, scl_inter=np.nan), "impossible scaling"),
    # geometry
    Bad("voxel size", lambda: nifti1(pixdim=[1, 0, 1, 1, 1, 1, 1, 1]), "voxel sizes"),
    Bad("voxel size", lambda: nifti1(pixdim=[1, 1, -2, 1, 1, 1, 1, 1]), "voxel sizes"),
    Bad("voxel size", lambda: nifti1(pixdim=[1, 1, 1, np.nan, 1, 1, 1, 1]), "voxel sizes"),
    Bad("voxel size", lambda: nifti2(pixdim=[1, 1, 1, np.inf, 1, 1, 1, 1]), "voxel sizes"),
    Bad("unit", lambda: nifti1(xyzt_units=1), "metres"),
    Bad("unit", lambda: nifti1(xyzt_units=3 + 8), "micrometres"),
    Bad("form code", lambda: nifti1(sform_code=77), "unknown qform or sform code"),
    Bad("form code", lambda: nifti1(qform_code=-1), "unknown qform or sform code"),
    Bad("sform not finite", lambda: nifti1(srow_x=[np.nan, 0, 0, 0]), "sform is no grid"),
    Bad("sform not finite", lambda: nifti1(srow_y=[0, 1, 0, np.inf]), "sform is no grid"),
    Bad("singular sform", lambda: nifti1(srow_z=[0, 0, 0, 0]), "sform is no grid"),
    Bad("singular sform", lambda: nifti1(srow_z=[1, 0, 0, 0]), "sform is no grid"),
    Bad("singular sform", lambda: nifti1(srow_x=[1, 1, 0, 0], srow_y=[1, 1, 0, 0]), "is singular"),
    Bad("absurd voxel size", lambda: nifti1(srow_z=[0, 0, 1e-6, 0]), "sform is no grid"),
    Bad("absurd voxel size", lambda: nifti1(srow_z=[0, 0, 3e7, 0]), "sform is no grid"),
    Bad("quaternion", lambda: nifti1(quatern_b=np.nan, **NO_SFORM), "qform is no grid"),
    Bad("quaternion", lambda: nifti1(quatern_b=1, quatern_c=1, **NO_SFORM), "qform is no grid"),
    Bad("qform not finite", lambda: nifti1(qoffset_x=np.inf, **NO_SFORM), "qform is no grid"),
    # values
    Bad("NaN voxels", lambda: holding(np.nan), "received 1 of 24 voxels"),
    Bad("infinite voxels", lambda: holding(-np.inf), "not finite"),
    Bad("beyond float32", lambda: holding(1e300, np.float64), "not finite"),
    Bad("fractional label", lambda: nifti1(FLOATS), "no labels", read=read_labels),
    Bad("fractional label", lambda: nifti1(scl_slope=0.3), "no labels", read=read_labels),
    Bad("NaN label", lambda: holding(np.nan), "no labels", read=read_labels),
    Bad("label too large", lambda: holding(3e9, np.uint32), "fit int32", read=read_labels),
    Bad("label too large", lambda: holding(1e30), "fit int32", read=read_labels),
    Bad("4-D labels", lambda: with_dim(4, 4, 3, 1, 2), "channels", read=read_labels),
    Bad("4-D region map", lambda: nifti1(FOUR), "3-D map for each", read=read_region),
    Bad("probability above 1", lambda: nifti1(FLOATS * 100), "0 to 100", read=read_probability),
    Bad("probability below 0", lambda: nifti1(FLOATS - 1), "-1 to 0", read=read_probability),
    Bad("infinite probability", lambda: holding(np.inf), "inf", read=read_probability),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda b: f"{b.cause}{b.ending}".replace(" ", "-"))
def test_bad_file_is_refused_for_its_own_reason(tmp_path, bad):
    path = tmp_path / f"scan{bad.ending}"
    path.write_bytes(bad.data())
    with pytest.raises(DataError) as caught:
        bad.read(path)
    assert bad.says in str(caught.value)
    assert caught.value.where == str(path)


def test_the_corpus_is_as_large_as_promised():
    assert len(BAD) >= 60
    assert len({bad.cause for bad in BAD}) >= 25


def test_the_same_files_without_the_fault_are_read(tmp_path):
    for name, data in {
        "a.nii": nifti1(),
        "b.nii": nifti2(),
        "c.nii.gz": zipped(nifti1()),
        "d.nii.gz": zipped(nifti1()[:400]) + zipped(nifti1()[400:]),
        "e.nii.gz": zipped(nifti1()) + bytes(512),  # tapes pad with zeros
    }.items():
        (tmp_path / name).write_bytes(data)
        volume, flags = read_image(tmp_path / name)
        np.testing.assert_array_equal(volume.array, np.arange(24).reshape(SHAPE))
        assert flags == ()


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "dangling", "circle", "device"])
@pytest.mark.parametrize("read", [read_image, read_labels, read_probability, read_grid])
def test_what_is_no_file_is_refused(tmp_path, kind, read):
    path = tmp_path / "scan.nii"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.symlink_to({"dangling": "nowhere", "circle": path, "device": "/dev/zero"}[kind])
    with pytest.raises(DataError, match=r"no such file|not a file|cannot be read"):
        read(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_file_cut_at_any_byte_never_yields_an_array(tmp_path, ending):
    whole = zipped(nifti1()) if ending == ".nii.gz" else nifti1()
    path = tmp_path / f"scan{ending}"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_image(path)
    path.write_bytes(whole)
    assert read_image(path)[0].shape == SHAPE


def test_no_damaged_byte_of_a_compressed_file_goes_unnoticed(tmp_path):
    whole, path = zipped(nifti1()), tmp_path / "scan.nii.gz"
    expected = np.arange(24).reshape(SHAPE)
    for position in range(len(whole)):
        path.write_bytes(damaged(whole, position))
        try:
            volume, _ = read_image(path)
        except DataError:
            continue
        assert position < 10  # time stamp and the like, which no checksum covers
        np.testing.assert_array_equal(volume.array, expected)


def test_every_damaged_header_byte_is_refused_or_read_but_never_crashes(tmp_path):
    whole, path = nifti1(), tmp_path / "scan.nii"
    for position in range(352):
        for value in (0xFF, 0x01, 0x80):
            path.write_bytes(damaged(whole, position, value))
            try:
                volume, _ = read_image(path, repair_nan=True)
            except DataError:
                continue
            assert np.isfinite(volume.array).all()
            assert np.isfinite(volume.affine).all()


def test_claims_are_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(zipped(with_dim(3, 1000, 1000, 1999)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_image(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_the_cap_is_configurable(tmp_path):
    path = tmp_path / "scan.nii"
    path.write_bytes(nifti1())
    assert read_image(path, max_voxels=24)[0].shape == SHAPE
    for read in (read_image, read_labels, read_probability, read_grid):
        with pytest.raises(DataError, match="at most 23"):
            read(path, max_voxels=23)


def test_grid_needs_the_header_only_and_takes_no_memory(tmp_path):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(damaged(zipped(nifti1()), -8))
    grid = read_grid(path)
    assert grid.shape == SHAPE
    assert grid.array.strides == (0, 0, 0)
    np.testing.assert_array_equal(grid.affine, np.diag([1.0, 2, 3, 1]))
