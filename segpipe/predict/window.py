"""Probabilities of a whole prepared volume from overlapping tiles of one shape."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import special

from segpipe.predict.tiles import gaussian_weights, tiles


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
        Normalised.
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
    weights = gaussian_weights(solid)[..., None]
    logits: np.ndarray | None = None
    total = np.zeros((*padded.shape[:3], 1), np.float32)
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
        if logits is None:
            logits = np.zeros((*padded.shape[:3], output.shape[-1]), np.float32)
        for box, tile in zip(boxes, output, strict=False):
            logits[box] += tile * weights
            total[box] += weights
    assert logits is not None  # there is at least one tile
    logits = logits[inside]
    logits /= total[inside]
    return foreground_probabilities(logits)


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
    """Pad axes shorter than the patch on both sides with the image's own darkest values."""
    missing = [max(0, p - n) for p, n in zip(patch, image.shape, strict=False)]
    before = [m // 2 for m in missing]
    inside = tuple(slice(b, b + n) for b, n in zip(before, image.shape, strict=False))
    if not any(missing):
        return image, inside
    shape = [n + m for n, m in zip(image.shape, missing, strict=False)]
    padded = np.empty((*shape, image.shape[-1]), image.dtype)
    padded[...] = image.min(axis=(0, 1, 2))
    padded[inside] = image
    return padded, inside


def _batched(items: Iterator[tuple[slice, ...]], size: int) -> Iterator[list[tuple[slice, ...]]]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk
