"""The only reader and writer of NIfTI. A damaged file raises; it never yields voxels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segpipe import files
from segpipe.config.schema import MAX_VOXELS
from segpipe.data.alignment import align
from segpipe.data.header import Header
from segpipe.data.stream import read_header, read_voxels
from segpipe.data.writing import write_volume
from segpipe.errors import DataError
from segpipe.volume import Volume

__all__ = [
    "MAX_VOXELS",
    "align",
    "file_sha256",
    "read_flagged_labels",
    "read_grid",
    "read_image",
    "read_labels",
    "read_probability",
    "read_region",
    "write_volume",
]

ROUNDING = 1e-4  # of labels and probabilities stored as scaled integers
_CHUNK_VOXELS = 1 << 24
_AS_SHARES = "Apply the sigmoid or softmax, or divide percentages by 100."


def read_image(
    path: str | Path,
    *,
    index: int | None = None,
    repair_nan: bool = False,
    max_voxels: int = MAX_VOXELS,
) -> tuple[Volume, tuple[str, ...]]:
    """Read intensities.

    Parameters
    ----------
    path : path
        ``.nii`` or ``.nii.gz``.
    index : int, optional
        Channel of a 4-D image to keep; the whole image if None.
    repair_nan : bool
        Replace NaN and infinite voxels by 0 and flag it, instead of failing.
    max_voxels : int
        Images that claim more are refused before allocation.

    Returns
    -------
    volume : Volume
        (X, Y, Z) float32, or (X, Y, Z, C) for a 4-D image without ``index``.
    flags : tuple of str
        What is unusual about the file.

    Raises
    ------
    DataError
        If the file is not a whole, valid NIfTI image or has voxels that are not finite.
    """
    path = Path(path)
    header, stored = read_voxels(path, max_voxels)
    if index is not None:
        stored = _channel(path, stored, index)
    array = _as_float32(stored, header)
    flags = header.flags
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad and not repair_nan:
        raise DataError(
            path,
            "voxels that are not finite",
            expected="finite numbers that fit float32",
            received=f"{bad:,} of {array.size:,} voxels",
            fix="Mend the image, or set data.repair_nan=true (segpipe predict: --set) to replace "
            "them by 0.",
        )
    if bad:
        np.nan_to_num(array, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        flags = (*flags, f"{bad} voxels that were not finite replaced by 0")
    return Volume(array, header.affine, header.form_codes), flags


def read_labels(path: str | Path, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """The map alone; values and errors as :func:`read_flagged_labels` has them."""
    return read_flagged_labels(path, max_voxels=max_voxels)[0]


def read_flagged_labels(
    path: str | Path, *, max_voxels: int = MAX_VOXELS
) -> tuple[Volume, tuple[str, ...]]:
    """Read a 3-D map of whole numbers, in the smallest of uint8, uint16 and int32.

    Returns
    -------
    volume : Volume
        (X, Y, Z).
    flags : tuple of str
        What is unusual about the file.

    Raises
    ------
    DataError
        If the file is not a whole, valid NIfTI image, not 3-D, or holds anything but
        whole numbers that fit int32.
    """
    path = Path(path)
    header, stored = read_voxels(path, max_voxels)
    if stored.ndim != 3:
        raise _channels(path, "label map", stored, "Save one 3-D map with a number per label.")
    if _is_scaled(header) or stored.dtype.kind == "f":
        array = _whole_numbers(path, stored, header)
    else:
        array = stored
    low, high = int(array.min()), int(array.max())
    limits = np.iinfo(np.int32)
    if low < limits.min or high > limits.max:
        raise _not_labels(path, f"whole numbers that fit int32, received {low} to {high}")
    fitting = (t for t in (np.uint8, np.uint16, np.int32) if _fits(low, high, np.iinfo(t)))
    return Volume(array.astype(next(fitting)), header.affine, header.form_codes), header.flags


def read_probability(
    path: str | Path,
    *,
    strict: bool = False,
    max_voxels: int = MAX_VOXELS,
    fix: str = _AS_SHARES,
) -> tuple[Volume, tuple[str, ...]]:
    """Read a map of probabilities, float32.

    NaN becomes 0 and is flagged, or raises when ``strict``. ``fix`` tells what to do about values
    that are none.

    Raises
    ------
    DataError
        If the file is not a whole, valid NIfTI image or holds values outside [0, 1].
    """
    path = Path(path)
    header, stored = read_voxels(path, max_voxels)
    array, flags = _as_float32(stored, header), header.flags
    missing = int(np.count_nonzero(np.isnan(array)))
    if missing and strict:
        raise DataError(
            path,
            "voxels without a probability",
            expected="numbers in [0, 1]",
            received=f"NaN in {missing:,} of {array.size:,} voxels",
            fix="Write 0 where nothing is predicted.",
        )
    if missing:
        array[np.isnan(array)] = 0
        flags = (*flags, f"{missing} NaN voxels counted as probability 0")
    low, high = float(array.min()), float(array.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise DataError(
            path,
            "values that are no probabilities",
            expected="numbers in [0, 1]",
            received=f"{low:g} to {high:g}",
            fix=fix,
        )
    np.clip(array, 0, 1, out=array)
    return Volume(array, header.affine, header.form_codes), flags


def read_region(
    path: str | Path, *, max_voxels: int = MAX_VOXELS, fix: str = _AS_SHARES
) -> tuple[Volume, tuple[str, ...]]:
    """Read the map of one region, as :func:`read_probability` does.

    Raises
    ------
    DataError
        As there; also if it is not 3-D.
    """
    volume, flags = read_probability(path, max_voxels=max_voxels, fix=fix)
    if volume.array.ndim != 3:
        raise _channels(Path(path), "region map", volume.array, "Save a 3-D map for each region.")
    return volume, flags


def read_grid(path: str | Path, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read and check the header only.

    Returns
    -------
    Volume
        The grid. Its array has the image's shape, takes no memory and holds no voxels.

    Raises
    ------
    DataError
        If the header is unusable or claims more than the file can hold.
    """
    header = read_header(Path(path), max_voxels)
    return Volume(np.broadcast_to(np.uint8(0), header.shape), header.affine, header.form_codes)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    try:
        return files.file_sha256(Path(path))
    except OSError as error:
        raise DataError(
            path, "the file cannot be read", received=str(error), fix="Add it or mend its rights."
        ) from error


def _channel(path: Path, stored: np.ndarray, index: int) -> np.ndarray:
    channels = stored.shape[3] if stored.ndim == 4 else 1
    if not 0 <= index < channels:
        raise DataError(
            path,
            "the image lacks a channel",
            expected=f"at least {index + 1} channels on the fourth axis",
            received=f"shape {stored.shape}",
            fix="Add the channel, or correct the dataset's channels.",
        )
    return stored[..., index] if stored.ndim == 4 else stored


def _is_scaled(header: Header) -> bool:
    return (header.slope, header.inter) != (1.0, 0.0)


def _as_float32(stored: np.ndarray, header: Header) -> np.ndarray:
    """True values; those beyond float32 become infinite."""
    if not _is_scaled(header) and stored.dtype == np.float32:
        return stored
    array = np.empty(stored.shape, dtype=np.float32, order="F")
    flat = array.reshape(-1, order="F")
    with np.errstate(over="ignore", invalid="ignore"):
        for part, values in _true_values(stored, header):
            flat[part] = values
    return array


def _true_values(stored: np.ndarray, header: Header) -> Iterator[tuple[slice, np.ndarray]]:
    """Scaled values as float64, a part at a time to spare memory."""
    flat = stored.reshape(-1, order="F")
    for start in range(0, flat.size, _CHUNK_VOXELS):
        part = slice(start, start + _CHUNK_VOXELS)
        values = flat[part].astype(np.float64)
        if _is_scaled(header):
            values = values * header.slope + header.inter
        yield part, values


def _whole_numbers(path: Path, stored: np.ndarray, header: Header) -> np.ndarray:
    array = np.empty(stored.shape, dtype=np.int64, order="F")
    flat = array.reshape(-1, order="F")
    with np.errstate(invalid="ignore", over="ignore"):
        for part, values in _true_values(stored, header):
            rounded = np.rint(values)
            wrong = ~(np.abs(values - rounded) <= ROUNDING)  # NaN and infinity are wrong too
            if wrong.any():
                raise _not_labels(path, f"whole numbers, received {values[wrong][0]:g}")
            if (np.abs(rounded) > 2**31).any():
                raise _not_labels(path, f"numbers that fit int32, received {rounded.max():g}")
            flat[part] = rounded
    return array


def _fits(low: int, high: int, limits: np.iinfo) -> bool:
    return limits.min <= low and high <= limits.max


def _channels(path: Path, kind: str, array: np.ndarray, fix: str) -> DataError:
    return DataError(
        path, f"a {kind} with channels", expected="3 axes", received=f"shape {array.shape}", fix=fix
    )


def _not_labels(path: Path, text: str) -> DataError:
    expected, received = text.split(", received ")
    return DataError(
        path,
        "values that are no labels",
        expected=expected,
        received=received,
        fix="Use the expert's mask, not probabilities; resample masks with nearest neighbour.",
    )
