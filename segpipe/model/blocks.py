"""Layers and blocks of the U-Net, for 2-D and 3-D, channels last."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="segpipe")
class InstanceNorm(layers.Layer):
    """Normalise every channel of every sample over its spatial axes.

    Statistics in float32, then one multiply-add on the activations: this form keeps its speed
    when converted, unlike group normalisation with one channel per group.

    Parameters
    ----------
    epsilon : float
        Added to the variance.

    Notes
    -----
    Input and output (B, \\*spatial, C). Source: Ulyanov et al., Instance Normalization, 2016.
    """

    def __init__(self, epsilon: float = 1e-5, **keras_arguments: Any) -> None:
        super().__init__(**keras_arguments)
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create scale and offset, one per channel."""
        channels = (input_shape[-1],)
        self.gamma = self.add_weight(shape=channels, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=channels, initializer="zeros", name="beta")

    def call(self, x):
        """Normalise ``x`` (B, \\*spatial, C)."""
        axes = tuple(range(1, len(x.shape) - 1))
        mean, variance = ops.moments(ops.cast(x, "float32"), axes=axes, keepdims=True)
        scale = ops.cast(self.gamma, "float32") * ops.rsqrt(variance + self.epsilon)
        offset = ops.cast(self.beta, "float32") - mean * scale
        return x * ops.cast(scale, x.dtype) + ops.cast(offset, x.dtype)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}


def convolution(x, features: int, kernel, stride, norm: str, name: str):
    """Convolution, then the normalisation if any; no activation."""
    rank = len(x.shape) - 2
    layer = {2: layers.Conv2D, 3: layers.Conv3D}[rank]
    x = layer(
        features,
        kernel,
        strides=stride,
        padding="same",
        use_bias=norm == "none",
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    if norm == "instance":
        return InstanceNorm(name=f"{name}_norm")(x)
    if norm == "batch":
        return layers.BatchNormalization(name=f"{name}_norm")(x)
    return x


def activation(x, kind: str, name: str):
    """Leaky ReLU (slope 0.01), ReLU or SiLU."""
    if kind == "leaky_relu":
        return layers.LeakyReLU(negative_slope=0.01, name=name)(x)
    return layers.Activation(kind, name=name)(x)


def plain_block(x, features: int, kernel, stride, count: int, norm: str, act: str, name: str):
    """``count`` times convolution, norm, activation; the first one strides."""
    for i in range(count):
        step = stride if i == 0 else 1
        x = convolution(x, features, kernel, step, norm, f"{name}_{i}")
        x = activation(x, act, f"{name}_{i}_act")
    return x


def residual_block(x, features: int, kernel, stride, count: int, norm: str, act: str, name: str):
    """The plain block with a shortcut added before its last activation.

    The shortcut is the identity where shapes allow, else a strided 1-convolution.
    Source: He et al., Deep Residual Learning, 2016.
    """
    strided = any(s != 1 for s in stride)
    shortcut = x
    if strided or x.shape[-1] != features:
        shortcut = _projection(x, features, stride, norm, f"{name}_shortcut")
    for i in range(count):
        step = stride if i == 0 else 1
        x = convolution(x, features, kernel, step, norm, f"{name}_{i}")
        if i < count - 1:
            x = activation(x, act, f"{name}_{i}_act")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return activation(x, act, f"{name}_act")


def _projection(x, features: int, stride, norm: str, name: str):
    """Strided 1-convolution.

    In 2-D its voxels are taken first. The gradient by the filter of one with a stride writes out of
    bounds there, and ends the process: TensorFlow 2.21, oneDNN with AVX512, channels that are no
    multiple of 16.
    """
    if len(x.shape) == 4:
        x, stride = x[:, :: stride[0], :: stride[1]], 1
    return convolution(x, features, 1, stride, norm, name)


def upsample(x, features: int, stride, name: str):
    """Transposed convolution whose kernel is its stride: no overlap, no checkerboard."""
    rank = len(x.shape) - 2
    layer = {2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}[rank]
    return layer(
        features, stride, strides=stride, kernel_initializer="he_normal", name=f"{name}_up"
    )(x)
