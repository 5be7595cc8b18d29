"""Where the tiles of a sliding window lie, and how much each voxel of a tile counts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First voxels of the tiles along one axis: evenly spread, the last one ends at the end.

    Parameters
    ----------
    length : int
        Voxels along the axis, at least ``tile``.
    tile : int
    overlap : float
        Least share of a tile that its neighbour covers too, in [0, 1).

    Examples
    --------
    >>> tile_starts(10, 4, 0.5)
    [0, 2, 4, 6]
    >>> tile_starts(4, 4, 0.5)
    [0]
    >>> tile_starts(20, 10, 0.8)
    [0, 2, 4, 6, 8, 10]
    """
    stride = max(1, int(tile * (1 - overlap) + 1e-6))  # 1 - 0.8 is a little below 0.2
    count = -(-(length - tile) // stride) + 1
    return [round(s) for s in np.linspace(0, length - tile, count)]


def tiles(shape: Sequence[int], tile: Sequence[int], overlap: float) -> Iterator[tuple[slice, ...]]:
    """Boxes of one shape that cover a volume; no axis may be shorter than its tile."""
    starts = [tile_starts(n, t, overlap) for n, t in zip(shape, tile, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(slice(s, s + t) for s, t in zip(corner, tile, strict=True))


def gaussian_weights(tile: Sequence[int]) -> np.ndarray:
    """Weight of each voxel of a tile: a Gaussian about its centre, σ an eighth of the tile.

    Returns
    -------
    tile-shaped float32 ndarray
        At most 1, at least 1e-3, so that every voxel counts somewhere.
    """
    weights = np.ones((), dtype=np.float64)
    for length in tile:
        x = np.arange(length) - (length - 1) / 2
        weights = np.multiply.outer(weights, np.exp(-0.5 * (x / (length / 8)) ** 2))
    return np.maximum(weights / weights.max(), 1e-3).astype(np.float32)
