"""The bytes of a NIfTI file: nothing is allocated or returned that the file does not hold."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from segpipe.data.header import HEADER_BYTES, Header, parse_header
from segpipe.errors import DataError, exceeds_memory

DEFLATE_LIMIT = 1032  # bytes that one compressed byte can expand to, zlib's own figure
CHUNK_BYTES = 1 << 22
_COPY_AGAIN = "Copy the file again from its source."


def read_header(path: Path, max_voxels: int) -> Header:
    """Header of a file, its size claims compared with the file's size.

    Raises
    ------
    DataError
        If the file is missing, no NIfTI, or claims more than it can hold or ``max_voxels``.
    """
    with _opened(path) as (stream, size, compressed):
        return _checked_header(path, stream, size, compressed, max_voxels)[0]


def read_voxels(path: Path, max_voxels: int) -> tuple[Header, np.ndarray]:
    """Header and stored voxels (unscaled, stored type, Fortran order) of a file.

    The stream is read to its end, so that its checksum is checked.

    Raises
    ------
    DataError
        As :func:`read_header`; also if the data are damaged, cut off or longer than claimed.
    """
    with _opened(path) as (stream, size, compressed):
        header, start = _checked_header(path, stream, size, compressed, max_voxels)
        skip = header.offset - len(start)
        while skip > 0:
            got = stream.read(min(skip, CHUNK_BYTES))
            if not got:
                raise _cut_off(path, header, header.offset - skip)
            skip -= len(got)
        buffer = np.empty(header.data_bytes, dtype=np.uint8)
        filled = len(start[header.offset :])
        buffer[:filled] = np.frombuffer(start[header.offset :], dtype=np.uint8)
        view = buffer.data
        while filled < len(buffer):
            got = stream.read(min(CHUNK_BYTES, len(buffer) - filled))
            if not got:
                raise _cut_off(path, header, header.offset + filled)
            view[filled : filled + len(got)] = got
            filled += len(got)
        if stream.read(1):
            raise _too_long(path, header, "more")
    return header, buffer.view(header.dtype).reshape(header.shape, order="F")


def _checked_header(
    path: Path, stream: BinaryIO, size: int, compressed: bool, max_voxels: int
) -> tuple[Header, bytes]:
    """The header, and the bytes read so far that do not belong to the voxels."""
    start = _read_up_to(stream, HEADER_BYTES[1])
    if len(start) >= 4 and HEADER_BYTES[2] in (
        int.from_bytes(start[:4], "little"),
        int.from_bytes(start[:4], "big"),
    ):
        start += _read_up_to(stream, HEADER_BYTES[2] - HEADER_BYTES[1])
    header = parse_header(path, start)
    if header.voxels > max_voxels:
        raise DataError(
            path,
            "more voxels than allowed",
            expected=f"at most {max_voxels:,} (data.max_voxels)",
            received=f"{header.voxels:,}, shape {header.shape}",
            fix="Raise data.max_voxels if the scan really is that large.",
        )
    claimed = header.offset + header.data_bytes
    most = size * DEFLATE_LIMIT if compressed else size
    if claimed > most:
        raise _cut_off(path, header, most)
    if not compressed and claimed < size:
        raise _too_long(path, header, f"{size:,} bytes")
    return header, start


def _read_up_to(stream: BinaryIO, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        got = stream.read(count - len(parts))
        if not got:
            break
        parts += got
    return parts


def _cut_off(path: Path, header: Header, held: int) -> DataError:
    return DataError(
        path,
        "the file holds less than its header claims",
        expected=f"{header.offset + header.data_bytes:,} bytes for shape {header.shape} of "
        f"{header.dtype.name}",
        received=f"at most {held:,}",
        fix=_COPY_AGAIN,
    )


def _too_long(path: Path, header: Header, received: str) -> DataError:
    return DataError(
        path,
        "the file holds more than its header claims",
        expected=f"{header.offset + header.data_bytes:,} bytes for shape {header.shape} of "
        f"{header.dtype.name}",
        received=received,
        fix=f"The header is damaged. {_COPY_AGAIN}",
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int, bool]]:
    """An uncompressed stream, the file's size and whether it is compressed.

    Every failure to read inside the block becomes DataError.
    """
    compressed = _is_compressed(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block for ever
            raise DataError(path, "not a file", expected="a NIfTI file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if size and gzipped != compressed:
                raise _wrong_suffix(path, gzipped)
            if compressed:
                with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                    yield stream, size, True  # type: ignore[misc]
            else:
                yield file, size, False
    except FileNotFoundError as error:
        raise DataError(
            path, "no such file", expected="a NIfTI file", fix="Add it or correct its name."
        ) from error
    except MemoryError as error:
        raise exceeds_memory(path, error) from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(
            path,
            "the file cannot be read",
            expected="an undamaged, readable file",
            received=f"{type(error).__name__}: {error}",
            fix=_COPY_AGAIN,
        ) from error


def _is_compressed(path: Path) -> bool:
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        return True
    if name.endswith(".nii"):
        return False
    raise DataError(
        path,
        "unknown kind of file",
        expected="a name that ends with .nii or .nii.gz",
        received=path.suffix or "no ending",
        fix="Convert DICOM with dcm2niix, other formats (.hdr/.img pairs too) with nibabel.",
    )


def _wrong_suffix(path: Path, gzipped: bool) -> DataError:
    held = "gzip" if gzipped else "no gzip"
    return DataError(
        path,
        "content and name contradict each other",
        expected="gzip data in .nii.gz, plain data in .nii",
        received=f"{held} data",
        fix="Rename the file if it is whole, else copy it again from its source.",
    )
