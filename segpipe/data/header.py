"""The NIfTI header, checked before anything that it claims is believed."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from segpipe.data.forms import read_affine
from segpipe.errors import DataError

HEADER_BYTES = {1: 348, 2: 540}
_NIFTI2_MAGIC = b"n+2\x00\r\n\x1a\n"
_DTYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_REFUSED_TYPES = {
    0: "unknown",
    1: "1-bit",
    32: "complex64",
    128: "RGB",
    1536: "float128",
    1792: "complex128",
    2048: "complex256",
    2304: "RGBA",
}
CONVERT = "Write it again with nibabel or dcm2niix as NIfTI-1 (.nii.gz)."


@dataclass(frozen=True)
class Header:
    """What a checked header says.

    Parameters
    ----------
    shape : tuple of int
        Three axes, or four; trailing axes of length 1 are left out.
    dtype : dtype
        As stored, with its byte order.
    slope, inter : float
        Stored values times ``slope`` plus ``inter`` are the true ones.
    offset : int
        Byte at which the voxels begin.
    affine : (4, 4) float ndarray
        Voxel index to mm.
    form_codes : (int, int)
        qform and sform code.
    flags : tuple of str
        What is unusual, yet usable.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    slope: float
    inter: float
    offset: int
    affine: np.ndarray
    form_codes: tuple[int, int]
    flags: tuple[str, ...]

    @property
    def voxels(self) -> int:
        """Number of values, channels included."""
        return math.prod(self.shape)

    @property
    def data_bytes(self) -> int:
        """Bytes that the values take in the file, uncompressed."""
        return self.voxels * self.dtype.itemsize


def recognise(path: Path, start: bytes) -> tuple[int, str]:
    """NIfTI version (1 or 2) and byte order (``<`` or ``>``) from a file's first bytes.

    Raises
    ------
    DataError
        If the bytes do not begin a single-file NIfTI image.
    """
    for order in "<>":
        size = struct.unpack(order + "i", start[:4])[0] if len(start) >= 4 else None
        version = {348: 1, 540: 2}.get(size or 0)
        if version is None:
            continue
        if len(start) < HEADER_BYTES[version]:
            raise DataError(
                path,
                "the header is cut off",
                expected=f"{HEADER_BYTES[version]} bytes",
                received=f"{len(start)} bytes",
                fix="Copy the file again from its source.",
            )
        magic, wanted = (
            (start[344:348], b"n+1\x00") if version == 1 else (start[4:12], _NIFTI2_MAGIC)
        )
        if magic != wanted:
            _refuse_magic(path, magic)
        return version, order
    raise DataError(
        path,
        "not a NIfTI image",
        expected="a header of 348 (NIfTI-1) or 540 (NIfTI-2) bytes",
        received=f"a file that begins with {start[:4]!r}" if start else "an empty file",
        fix="Convert DICOM with dcm2niix, other formats with nibabel.",
    )


def _refuse_magic(path: Path, magic: bytes) -> None:
    if magic[:3] in (b"ni1", b"ni2"):
        problem, fix = "half of a .hdr/.img pair", CONVERT
    elif magic[:4] == b"\x00\x00\x00\x00":
        problem, fix = "an Analyze 7.5 header, which holds no orientation", CONVERT
    else:
        problem, fix = "the NIfTI signature is damaged", "Copy the file again from its source."
    raise DataError(path, problem, expected="n+1 or n+2", received=repr(magic), fix=fix)


def parse_header(path: Path, block: bytes) -> Header:
    """Check a header, byte for byte as stored, and return what it says.

    Parameters
    ----------
    path : Path
        Named in errors.
    block : bytes
        The file's first bytes, uncompressed: 540, or as many as there are.

    Raises
    ------
    DataError
        If any field is impossible, unsupported or not finite where it must be.
    """
    version, order = recognise(path, block)
    kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    raw = kind(block[: HEADER_BYTES[version]], endianness=order, check=False)
    shape = _shape(path, raw)
    affine, codes, flags = read_affine(path, raw, shape)
    slope, inter = _scaling(path, raw)
    return Header(
        shape=shape,
        dtype=_dtype(path, raw, order),
        slope=slope,
        inter=inter,
        offset=_offset(path, raw, HEADER_BYTES[version] + 4),
        affine=affine,
        form_codes=codes,
        flags=flags,
    )


def _shape(path: Path, raw: nib.Nifti1Header) -> tuple[int, ...]:
    count, *lengths = (int(n) for n in raw["dim"])
    if not 1 <= count <= 7:
        raise DataError(
            path,
            "impossible number of axes",
            expected="3, or 4 with channels",
            received=str(count),
            fix="Copy the file again from its source.",
        )
    shape = lengths[:count]
    if min(shape) < 1:
        raise DataError(
            path,
            "an axis without voxels",
            expected="lengths of 1 or more",
            received=f"shape {tuple(shape)}",
            fix="Copy the file again from its source.",
        )
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) not in (3, 4):
        raise DataError(
            path,
            "wrong number of axes",
            expected="3, or 4 with channels last",
            received=f"shape {tuple(shape)}",
            fix="Save one 3-D image per channel.",
        )
    return tuple(shape)


def _dtype(path: Path, raw: nib.Nifti1Header, order: str) -> np.dtype:
    code, bits = int(raw["datatype"]), int(raw["bitpix"])
    if code not in _DTYPES:
        raise DataError(
            path,
            "unsupported data type",
            expected="integers or floats of 8 to 64 bits",
            received=f"{_REFUSED_TYPES.get(code, 'unknown')} (code {code})",
            fix="Convert the voxels to float32.",
        )
    dtype = np.dtype(order + _DTYPES[code])
    if bits not in (0, 8 * dtype.itemsize):
        raise DataError(
            path,
            "data type and bits per voxel contradict each other",
            expected=f"{8 * dtype.itemsize} bits for {dtype.name}",
            received=f"{bits} bits",
            fix="Copy the file again from its source.",
        )
    return dtype


def _offset(path: Path, raw: nib.Nifti1Header, smallest: int) -> int:
    offset = float(raw["vox_offset"])
    if offset == 0:  # not set; voxels cannot begin inside the header
        return smallest
    if not math.isfinite(offset) or offset < smallest or offset != int(offset):
        raise DataError(
            path,
            "impossible position of the voxels",
            expected=f"a whole number of bytes from {smallest} on",
            received=f"{offset:g}",
            fix="Copy the file again from its source.",
        )
    return int(offset)


def _scaling(path: Path, raw: nib.Nifti1Header) -> tuple[float, float]:
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or math.isnan(slope):  # the standard's and nibabel's "not scaled"
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise DataError(
            path,
            "impossible scaling",
            expected="finite scl_slope and scl_inter",
            received=f"{slope:g} and {inter:g}",
            fix="Write the image again, unscaled.",
        )
    return slope, inter
