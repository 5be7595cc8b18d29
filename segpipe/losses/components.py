"""Connected components of masks inside a training step, and sums over them.

Two engines give the same labels: one in the graph, from tensor operations alone, and one on the
host. Shapes are static: there is a label for every voxel, and no greatest number of components.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from keras import ops

if TYPE_CHECKING:
    from segpipe.backend.callbacks import Labelling

_JUMPS = 2  # of pointers per round; 7 rounds at most were seen in volumes of 96³


def label(mask, engine: Labelling = "graph"):
    """Label the components of every sample and channel on its own.

    Neighbours share a face, an edge or a corner: 26 in 3-D, 8 in 2-D.

    Parameters
    ----------
    mask : (B, \\*spatial, C) bool tensor
        ``spatial`` must be static.
    engine : {'graph', 'host'}
        graph: on any device, compiled or not; on torch for volumes of up to 2²⁴ voxels, as Keras
        takes maxima over segments in float32 there. host: cc3d in a callback, which XLA
        (``jit_compile=True`` on TensorFlow) cannot compile.

    Returns
    -------
    (B, \\*spatial, C) int32 tensor
        0 outside the mask; inside, 1 + the largest C-order index of the component's voxels. No
        gradient flows through it.

    Raises
    ------
    ValueError
        If a spatial axis is not static.

    Examples
    --------
    >>> import numpy as np
    >>> line = np.array([1, 1, 0, 1], bool).reshape(1, 4, 1, 1)
    >>> np.asarray(label(line)).ravel().tolist()
    [2, 2, 0, 4]
    """
    if None in mask.shape[1:-1]:
        raise ValueError(
            "Components are labelled in arrays of a size that is known when the graph is made. "
            f"Expected (B, *spatial, C) with numbers for spatial; received {tuple(mask.shape)}. "
            "Give the model a fixed input size, such as Input((96, 96, 96, 1))."
        )
    mask = ops.stop_gradient(mask)
    spatial, channels = tuple(mask.shape[1:-1]), mask.shape[-1]
    volumes = ops.reshape(ops.moveaxis(mask, -1, 1), (-1, *spatial))
    labels = _in_graph(volumes) if engine == "graph" else _on_host(volumes)
    return ops.moveaxis(ops.reshape(labels, (-1, channels, *spatial)), 1, -1)


def segments(labels):
    """A segment of its own for every component, and for every voxel in none.

    As many segments as voxels, so that their number is static and no two processors write to one
    great segment of background.

    Parameters
    ----------
    labels : (B, \\*spatial, C) int32 tensor
        Of :func:`label`.

    Returns
    -------
    (B · prod(spatial) · C,) int32 tensor
        Sample by sample, then channel by channel, each in C order.
    """
    spatial, channels = tuple(labels.shape[1:-1]), labels.shape[-1]
    voxels = math.prod(spatial)
    own = ops.reshape(ops.arange(voxels, dtype="int32"), (1, *spatial, 1))
    ones = (1,) * len(spatial)
    volume = ops.arange(ops.shape(labels)[0] * channels, dtype="int32")
    first = ops.reshape(volume * voxels, (-1, *ones, channels))
    return ops.reshape(ops.where(labels > 0, labels - 1, own) + first, (-1,))


def sum_by(ids, values):
    """Sum values over each segment.

    Parameters
    ----------
    ids : (V,) int32 tensor
        Of :func:`segments`.
    values : tensor with V elements

    Returns
    -------
    (V,) tensor
        At the number of each segment; 0 where there is none.
    """
    count = ops.shape(ids)[0]
    return ops.segment_sum(ops.reshape(values, (-1,)), ids, num_segments=count)


def per_sample(values, shape):
    """Sum what belongs to segments over each sample.

    Parameters
    ----------
    values : (V,) tensor
        By segment.
    shape : tuple
        Of the labels, (B, \\*spatial, C).

    Returns
    -------
    (B,) tensor
    """
    return ops.sum(ops.reshape(values, (-1, math.prod(shape[1:]))), axis=1)


def touched_by_border(ids, shape):
    """Which segments reach the border of the array along an axis longer than 1.

    Parameters
    ----------
    ids : (V,) int32 tensor
        Of :func:`segments`.
    shape : tuple
        Of the labels, (B, \\*spatial, C).

    Returns
    -------
    (V,) bool tensor
    """
    grid = ops.reshape(ids, (-1, *shape[1:]))
    faces = []
    for axis, size in enumerate(shape[1:-1], start=1):
        for side in (0, size - 1) if size > 1 else ():
            box = [slice(None)] * len(shape)
            box[axis] = slice(side, side + 1)
            faces.append(ops.reshape(grid[tuple(box)], (-1,)))
    if not faces:
        return ops.zeros_like(ids, dtype="bool")
    border = ops.concatenate(faces)
    count = ops.shape(ids)[0]
    return ops.segment_sum(ops.ones_like(border), border, num_segments=count) > 0


def _in_graph(mask):
    """(N, \\*spatial) bool to labels, as :func:`label` gives them.

    Every voxel points to a voxel of its component, at first to itself. A round looks at all
    neighbours for the largest pointer, lets the voxel pointed to take it too, and follows
    pointers. Pointers only grow; when none changes, all of a component point to its last voxel.
    Source: Zhang, Azad, Hu, FastSV, 2020, https://doi.org/10.1137/1.9781611976137.5
    """
    spatial = tuple(mask.shape[1:])
    voxels = math.prod(spatial)
    inside = ops.cast(mask, "int32")
    own = ops.reshape(ops.arange(1, voxels + 1, dtype="int32"), (1, *spatial))
    count = ops.shape(mask)[0]
    first = ops.reshape(ops.arange(count, dtype="int32") * voxels, (-1, *(1,) * len(spatial)))

    def place(labels):
        return ops.reshape(ops.where(mask, labels, own) - 1 + first, (-1,))

    def follow(labels, once):
        return ops.reshape(ops.take(ops.reshape(labels, (-1,)), once), ops.shape(labels))

    def advance(labels, changed):
        seen = _largest_around(labels) * inside
        best = ops.segment_max(ops.reshape(seen, (-1,)), place(labels), num_segments=count * voxels)
        best = ops.reshape(ops.cast(best, "int32"), ops.shape(labels))
        new = ops.maximum(seen, best * inside)
        for _ in range(_JUMPS):
            new = follow(new, place(new))
        return new, ops.any(new != labels)

    start = (own * inside, ops.convert_to_tensor(True))
    return ops.while_loop(lambda _, changed: changed, advance, start)[0]


def _largest_around(labels):
    """Maximum over the box of 3 along every spatial axis of (N, \\*spatial)."""
    for axis in range(1, len(labels.shape)):
        size = labels.shape[axis]
        if size == 1:
            continue
        before, after = [slice(None)] * len(labels.shape), [slice(None)] * len(labels.shape)
        before[axis], after[axis] = slice(0, size - 1), slice(1, size)
        pad = [[0, 0] for _ in labels.shape]
        pad[axis] = [1, 0]
        left = ops.pad(labels[tuple(before)], pad)
        pad[axis] = [0, 1]
        right = ops.pad(labels[tuple(after)], pad)
        labels = ops.maximum(labels, ops.maximum(left, right))
    return labels


def _on_host(mask):
    from segpipe.backend.callbacks import call_on_host  # a loss in the graph needs Keras alone

    return call_on_host(label_array, mask, "int32")


def label_array(mask: np.ndarray) -> np.ndarray:
    """The labels of :func:`label` for an array of volumes.

    Parameters
    ----------
    mask : (N, \\*spatial) bool ndarray

    Returns
    -------
    (N, \\*spatial) int32 ndarray
    """
    from segpipe.lesions.components import label_components  # cc3d: not needed in the graph

    result = np.zeros(mask.shape, np.int32)
    for volume, out in zip(mask, result, strict=True):
        solid = volume.reshape(volume.shape + (1,) * (3 - volume.ndim))
        labels, count = label_components(solid)
        places = np.flatnonzero(labels)
        numbers = labels.ravel()[places]
        last = np.zeros(count + 1, np.int32)
        np.maximum.at(last, numbers, places.astype(np.int32) + 1)
        out.reshape(-1)[places] = last[numbers]
    return result
