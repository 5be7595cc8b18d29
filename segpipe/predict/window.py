"""Probabilities of a whole prepared volume from overlapping tiles of one shape."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import special

from segpipe.predict.tiles import gaussian_weights, tiles


def normalising(
    engine: Callable[[np.ndarray], np.ndarray], shift: np.ndarray, scale: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """An engine for tiles in [0, 1] from one for normalised tiles.

    So a large scan need not lie in memory twice.
    """
    return lambda tiles: engine((tiles - shift) / scale)


def predict_volume(
    image: np.ndarray,
    engine: Callable[[np.ndarray], np.ndarray],
    *,
    patch: Sequence[int],
    overlap: float,
    batch: int,
    slice_axis: int | None = None,
    mirroring: Sequence[int] = (),
) -> np.ndarray:
    """Gaussian-blended sliding window.

    Parameters
    ----------
    image : (X, Y, Z, C) float32 ndarray
        In [0, 1], as prepared. Where it is smaller than the patch, 0 lies around it, as around
        the patches of training.
    engine : callable
        (batch, \\*patch, C) to logits (batch, \\*patch, outputs).
    patch : sequence of int
        Three numbers, or two for a 2-D network.
    overlap : float
        Of neighbouring tiles, in [0, 1).
    batch : int
        Tiles per call; the last call is filled up so that its shape never changes.
    slice_axis : int, optional
        2-D networks: the axis across the slices.
    mirroring : sequence of int
        Axes along which every tile is reversed before the engine and its output after it. Tiles
        lie where they always lie, so a network that does not mind mirroring gives equal numbers.

    Returns
    -------
    (X, Y, Z, K) float32 ndarray
        Probability of each foreground class.
    """
    solid = list(patch)
    if slice_axis is not None:
        solid.insert(slice_axis, 1)
    padded, inside = _pad_to(image, solid)
    reversed_axes = tuple(axis + 1 for axis in mirroring)  # the first axis of a stack counts tiles
    blend: _Blend | None = None
    for boxes in _batched(tiles(padded.shape[:3], solid, overlap), batch):
        stack = np.flip(np.stack([padded[box] for box in boxes]), reversed_axes)
        if slice_axis is not None:
            stack = np.squeeze(stack, axis=slice_axis + 1)
        if len(boxes) < batch:
            filler = np.zeros((batch - len(boxes), *stack.shape[1:]), stack.dtype)
            stack = np.concatenate([stack, filler])
        output = engine(np.ascontiguousarray(stack))
        if slice_axis is not None:
            output = np.expand_dims(output, axis=slice_axis + 1)
        output = np.flip(output, reversed_axes)
        blend = blend or _Blend(padded.shape[:3], solid, output.shape[-1])
        for box, tile in zip(boxes, output, strict=False):
            blend.add(box, tile)
    assert blend is not None  # there is at least one tile
    return np.ascontiguousarray(blend.finish()[inside])


class _Blend:
    """Probabilities of a volume from tiles whose first voxels never go back along the first axis.

    Logits are kept of as many voxels along that axis as a tile has; what lies before the latest
    tile gets no more of them and becomes probabilities.
    """

    def __init__(self, shape: Sequence[int], tile: Sequence[int], outputs: int) -> None:
        self.weights = gaussian_weights(tile)[..., None]
        self.logits = np.zeros((tile[0], *shape[1:], outputs), np.float32)
        self.total = np.zeros((tile[0], *shape[1:], 1), np.float32)
        self.probabilities = np.empty((*shape, max(1, outputs - 1)), np.float32)
        self.first = 0

    def add(self, box: tuple[slice, ...], tile: np.ndarray) -> None:
        """Add the (\\*tile, C) logits of a tile."""
        self._end_at(box[0].start)
        self.logits[:, *box[1:]] += tile * self.weights
        self.total[:, *box[1:]] += self.weights

    def finish(self) -> np.ndarray:
        """(X, Y, Z, K) float32 probabilities, once every tile was added."""
        self._end_at(len(self.probabilities))
        return self.probabilities

    def _end_at(self, start: int) -> None:
        """Make what lies before a voxel of the first axis into probabilities."""
        done = start - self.first
        if done == 0:
            return
        self.logits[:done] /= self.total[:done]
        self.probabilities[self.first : start] = foreground_probabilities(self.logits[:done])
        for kept in (self.logits, self.total):
            kept[:-done] = kept[done:].copy()
            kept[-done:] = 0
        self.first = start


def foreground_probabilities(logits: np.ndarray) -> np.ndarray:
    """Sigmoid of one logit; softmax without the background of several.

    Parameters
    ----------
    logits : (..., C) float32 ndarray

    Returns
    -------
    (..., max(1, C - 1)) float32 ndarray
    """
    if logits.shape[-1] == 1:
        return special.expit(logits)
    probabilities = np.empty((*logits.shape[:-1], logits.shape[-1] - 1), logits.dtype)
    for slab, own in zip(logits, probabilities, strict=True):  # a softmax makes copies
        own[...] = special.softmax(slab, axis=-1)[..., 1:]
    return probabilities


def _pad_to(image: np.ndarray, patch: Sequence[int]) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Pad axes shorter than the patch on both sides with 0."""
    missing = [max(0, p - n) for p, n in zip(patch, image.shape, strict=False)]
    before = [m // 2 for m in missing]
    inside = tuple(slice(b, b + n) for b, n in zip(before, image.shape, strict=False))
    if not any(missing):
        return image, inside
    shape = [n + m for n, m in zip(image.shape, missing, strict=False)]
    padded = np.zeros((*shape, image.shape[-1]), image.dtype)
    padded[inside] = image
    return padded, inside


def _batched(items: Iterator[tuple[slice, ...]], size: int) -> Iterator[list[tuple[slice, ...]]]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk
