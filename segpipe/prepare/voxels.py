"""Compressed voxels on disk, read a patch at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

_CHUNK, _BLOCK = 64, 16


class StoredArray:
    """Voxels on disk; a slice reads only the blocks that it touches.

    Several threads may read at once. ``numpy.asarray`` reads everything.

    Parameters
    ----------
    path : Path
        A blosc2 array.
    """

    def __init__(self, path: Path) -> None:
        self._array = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis, channels last."""
        return tuple(self._array.shape)

    @property
    def dtype(self) -> np.dtype:
        """Of the voxels."""
        return np.dtype(self._array.dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        with self._lock:
            return self._array[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self[...]
        return whole if dtype is None else whole.astype(dtype, copy=False)


def pack(array: np.ndarray) -> bytes:
    """Compress (X, Y, Z[, C]) voxels; the bytes are the file of a :class:`StoredArray`."""
    chunks = tuple(max(1, min(_CHUNK, n)) for n in array.shape[:3])
    blocks = tuple(min(_BLOCK, n) for n in chunks)
    if array.size == 0:
        return blosc2.asarray(array).to_cframe()
    packed = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=chunks + array.shape[3:],
        blocks=blocks + array.shape[3:],
        cparams=blosc2.CParams(
            codec=blosc2.Codec.ZSTD, clevel=3, filters=[blosc2.Filter.SHUFFLE], nthreads=1
        ),
    )
    return packed.to_cframe()
