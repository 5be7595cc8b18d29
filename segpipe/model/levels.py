"""The levels of a U-Net: where it halves, and along which axes it convolves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.config import ModelConfig
from segpipe.errors import ConfigError

_COARSE = 2.0  # an axis this much coarser than the finest waits until the others have caught up
_SMALLEST = 4  # voxels that must be left along an axis after halving


@dataclass(frozen=True)
class Level:
    """One resolution level: the stride into it and its kernel, per spatial axis."""

    stride: tuple[int, ...]
    kernel: tuple[int, ...]


def halving(
    size: np.ndarray, spacing_mm: np.ndarray, divisible: np.ndarray | bool = True
) -> np.ndarray:
    """Stride into the next level: 2 along the axes that are halved, 1 along the others.

    An axis is halved where at least 4 voxels are left and where it is less than twice as coarse as
    the finest of those that can be halved. One that is too short to be halved any more keeps no
    other from it.

    Parameters
    ----------
    size : (D,) ndarray
        Voxels, whole or not.
    spacing_mm : (D,) float ndarray
    divisible : (D,) bool ndarray or bool
        Whether the size can be divided by 2.

    Returns
    -------
    (D,) int ndarray

    Examples
    --------
    >>> halving(np.array([48, 48, 6]), np.array([2.0, 2.0, 1.0]))
    array([2, 2, 1])
    """
    can = divisible & (size >= 2 * _SMALLEST)
    finest = np.min(spacing_mm, where=can, initial=np.inf)
    return np.where(can & (spacing_mm < _COARSE * finest), 2, 1)


def plan_levels(
    config: ModelConfig, patch: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[Level, ...]:
    """Strides and kernels of every level.

    An axis is convolved along, 3 voxels wide, from the level on where it is less than twice as
    coarse as the finest of those that can be halved; before that, and where one voxel is left, its
    kernel is 1. One that is too short to be halved any more keeps no other from it: the others get
    coarser, and would never catch up.

    Parameters
    ----------
    config : ModelConfig
    patch : sequence of int
        Voxels per spatial axis of the network's input.
    spacing_mm : sequence of float
        Of the same axes.

    Returns
    -------
    tuple of Level
        As many as ``config.features``.

    Raises
    ------
    ConfigError
        If configured strides do not divide the patch.

    Examples
    --------
    >>> config = ModelConfig(features=(8, 16, 32))
    >>> [level.stride for level in plan_levels(config, (32, 32, 8), (1, 1, 4))]
    [(1, 1, 1), (2, 2, 1), (2, 2, 1)]
    >>> [level.kernel for level in plan_levels(config, (48, 48, 6), (2, 2, 1))]
    [(3, 3, 3), (3, 3, 3), (3, 3, 3)]
    """
    size = np.array(patch)
    spacing = np.array(spacing_mm, dtype=float)
    seen = np.zeros(len(size), dtype=bool)
    levels = []
    for i in range(len(config.features)):
        if i == 0:
            stride = np.ones(len(size), dtype=int)
        elif config.strides is not None:
            stride = np.array(config.strides[i - 1])
        else:
            stride = halving(size, spacing, size % 2 == 0)
        if (size % stride).any():
            raise ConfigError(
                f"train.patch: expected {tuple(patch)} to be divisible by the strides down to "
                f"level {i}; received {tuple(int(s) for s in size)} voxels and stride "
                f"{tuple(int(s) for s in stride)}. Choose multiples of "
                f"{2 ** (len(config.features) - 1)}."
            )
        size = size // stride
        spacing = spacing * stride
        finest = np.min(spacing, where=size >= 2 * _SMALLEST, initial=np.inf)
        seen |= spacing < _COARSE * (finest if np.isfinite(finest) else spacing.min())
        kernel = np.where(seen & (size > 1), 3, 1)
        levels.append(Level(tuple(stride.tolist()), tuple(kernel.tolist())))
    return tuple(levels)
