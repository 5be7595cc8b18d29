"""The U-Net: plain or residual, 2-D or 3-D, aware of anisotropic spacing."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from segpipe.config import ModelConfig
from segpipe.model import blocks
from segpipe.model.levels import plan_levels


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
