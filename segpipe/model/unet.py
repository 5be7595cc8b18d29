"""The U-Net: plain or residual, 2-D or 3-D, aware of anisotropic spacing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from segpipe.config import ModelConfig
from segpipe.errors import ConfigError
from segpipe.model import blocks

_COARSE = 2.0  # an axis this much coarser than the finest is neither halved nor convolved along
_SMALLEST = 4  # voxels that must be left along an axis after halving


@dataclass(frozen=True)
class Level:
    """One resolution level: the stride into it and its kernel, per spatial axis."""

    stride: tuple[int, ...]
    kernel: tuple[int, ...]


def plan_levels(
    config: ModelConfig, patch: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[Level, ...]:
    """Strides and kernels of every level.

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
    """
    size = np.array(patch)
    spacing = np.array(spacing_mm, dtype=float)
    levels = []
    for i in range(len(config.features)):
        if i == 0:
            stride = np.ones(len(size), dtype=int)
        elif config.strides is not None:
            stride = np.array(config.strides[i - 1])
        else:
            fine = spacing < _COARSE * spacing.min()
            stride = np.where(fine & (size % 2 == 0) & (size >= 2 * _SMALLEST), 2, 1)
        if (size % stride).any():
            raise ConfigError(
                f"train.patch: expected {tuple(patch)} to be divisible by the strides down to "
                f"level {i}; received {tuple(int(s) for s in size)} voxels and stride "
                f"{tuple(int(s) for s in stride)}. Choose multiples of "
                f"{2 ** (len(config.features) - 1)}."
            )
        size = size // stride
        spacing = spacing * stride
        kernel = np.where(spacing < _COARSE * spacing.min(), 3, 1)
        kernel = np.where(size > 1, kernel, 1)
        levels.append(Level(tuple(stride.tolist()), tuple(kernel.tolist())))
    return tuple(levels)


def build_unet(
    config: ModelConfig,
    patch: Sequence[int],
    spacing_mm: Sequence[float],
    channels: int,
    outputs: int,
) -> keras.Model:
    """A U-Net that returns logits.

    Parameters
    ----------
    config : ModelConfig
    patch : sequence of int
        Voxels per spatial axis; the input is (B, \\*patch, channels).
    spacing_mm : sequence of float
        Of the same axes; decides where to downsample.
    channels : int
    outputs : int
        1 for one label (sigmoid), 1 + number of labels otherwise (softmax, background first).

    Returns
    -------
    keras.Model
        Outputs float32 logits (B, \\*patch, outputs); with deep supervision a list of them, from
        the finest to the coarsest decoder level.

    Notes
    -----
    Source: Ronneberger et al., U-Net, 2015; Çiçek et al., 3D U-Net, 2016. The last layer's
    biases start where background is likely, so that the first steps are not spent on learning
    that lesions are rare.
    """
    levels = plan_levels(config, patch, spacing_mm)
    block = blocks.residual_block if config.block == "residual" else blocks.plain_block
    settings = (config.convs_per_level, config.norm, config.activation)
    inputs = keras.Input((*patch, channels), name="image")
    x = inputs
    skips = []
    for i, (features, level) in enumerate(zip(config.features, levels, strict=True)):
        x = block(x, features, level.kernel, level.stride, *settings, name=f"encoder{i}")
        skips.append(x)
    heads: list = []
    for i in reversed(range(len(levels) - 1)):
        x = blocks.upsample(x, config.features[i], levels[i + 1].stride, f"decoder{i}")
        x = layers.Concatenate(name=f"decoder{i}_skip")([x, skips[i]])
        x = block(
            x, config.features[i], levels[i].kernel, (1,) * len(patch), *settings,
            name=f"decoder{i}",
        )  # fmt: skip
        if i == 0 or config.deep_supervision:
            heads.insert(0, _head(x, outputs, f"logits{i}"))
    return keras.Model(inputs, heads if config.deep_supervision else heads[0], name="unet")


def finest(network: keras.Model) -> keras.Model:
    """The same network without the outputs that only deep supervision needs."""
    return keras.Model(network.inputs, network.outputs[0], name="unet_finest")


def _head(x, outputs: int, name: str):
    layer = {2: layers.Conv2D, 3: layers.Conv3D}[len(x.shape) - 2]
    bias = np.full(outputs, -3.0) if outputs == 1 else np.r_[2.0, np.zeros(outputs - 1)]

    def likely_background(shape, dtype=None):
        return keras.ops.convert_to_tensor(bias, dtype=dtype)

    return layer(outputs, 1, dtype="float32", bias_initializer=likely_background, name=name)(x)
