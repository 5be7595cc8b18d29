"""Voxels at any coordinates: linear for intensities and regions, nearest for labels."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

# The loading threads are the parallelism; OpenCV's own threads would only compete with them.
cv2.setNumThreads(1)

_LARGEST_SIDE = 32_766  # of images that cv2.remap takes
_LARGEST_CHANNELS = 4


def sample_nearest(block: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Nearest voxels of a block.

    Parameters
    ----------
    block : (X, Y, Z) ndarray
    coordinates : (3, U, V, W) float32 ndarray
        In voxels; beyond the block the border repeats.

    Returns
    -------
    (U, V, W) ndarray
        Of the block's type.
    """
    x, y, z = (
        np.clip(np.rint(c), 0, n - 1).astype(np.int32)
        for c, n in zip(coordinates, block.shape, strict=True)
    )
    return block.reshape(-1)[(x * block.shape[1] + y) * block.shape[2] + z]


def sample_linear(block: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Trilinear interpolation of a block.

    Two bilinear ones by OpenCV in the planes before and behind, which it does at ten times the
    speed of scipy, to 1/32 of a voxel.

    Parameters
    ----------
    block : (X, Y, Z, C) float32 or uint8 ndarray
    coordinates : (3, U, V, W) float32 ndarray
        In voxels; beyond the block the border repeats.

    Returns
    -------
    (U, V, W, C) ndarray
        Of the block's type.
    """
    channels = block.shape[3]
    out = np.empty((*coordinates.shape[1:], channels), block.dtype)
    within = np.empty_like(coordinates)
    for axis in range(3):
        np.clip(coordinates[axis], 0, block.shape[axis] - 1, out=within[axis])
    for first in range(0, channels, _LARGEST_CHANNELS):
        group = slice(first, first + _LARGEST_CHANNELS)
        _interpolate(np.ascontiguousarray(block[..., group]), within, out[..., group])
    return out


def _interpolate(block: np.ndarray, coordinates: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out``, in halves where the planes involved are too many for one OpenCV image."""
    if block.shape[2] == 1 and max(*block.shape[:2], *out.shape[:3]) <= _LARGEST_SIDE:
        _interpolate_in_plane(block[:, :, 0], coordinates, out)
        return
    planes, height = coordinates.shape[1:3]
    before = np.floor(coordinates[0])
    first, last = int(before.min()), min(int(before.max()) + 1, block.shape[0] - 1)
    rows = (last - first + 1) * block.shape[1]
    if max(rows, planes * height) > _LARGEST_SIDE:
        if planes == 1:
            _interpolate_slowly(block, coordinates, out)
            return
        half = planes // 2
        _interpolate(block, coordinates[:, :half], out[:half])
        _interpolate(block, coordinates[:, half:], out[half:])
        return
    image = block[first : last + 1].reshape(rows, block.shape[2], -1)
    shape = (planes * height, coordinates.shape[3])
    column = coordinates[2].reshape(shape)
    row = ((before - first) * block.shape[1] + coordinates[1]).reshape(shape)
    behind = (np.minimum(before + 1, last) - before).reshape(shape) * block.shape[1] + row
    share = (coordinates[0] - before)[..., np.newaxis]
    near = cv2.remap(image, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    far = cv2.remap(image, column, behind, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    near = near.reshape(out.shape).astype(np.float32, copy=False)
    mixed = near + (far.reshape(out.shape) - near) * share
    out[...] = np.rint(mixed) if out.dtype == np.uint8 else mixed


def _interpolate_in_plane(plane: np.ndarray, coordinates: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` from one (X, Y, C) plane, whatever the third coordinate."""
    shape = (coordinates.shape[1], -1)
    row, column = (coordinates[axis].reshape(shape) for axis in (0, 1))
    found = cv2.remap(plane, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    out[...] = found.reshape(out.shape)


def _interpolate_slowly(block: np.ndarray, coordinates: np.ndarray, out: np.ndarray) -> None:
    for channel in range(block.shape[3]):
        values = ndimage.map_coordinates(
            block[..., channel].astype(np.float32), coordinates, order=1, mode="nearest"
        )
        out[..., channel] = np.rint(values) if out.dtype == np.uint8 else values
