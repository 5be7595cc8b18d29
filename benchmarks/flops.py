"""Floating-point operations of a network's convolutions, counted from its layers."""

from __future__ import annotations

import math
from typing import Any

from keras import layers

_CONVOLUTIONS = (layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv2DTranspose, layers.Conv3DTranspose)


def layer_flops(layer: Any) -> int:
    """Multiplications and additions of one sample's forward pass; 0 for other layers.

    A convolution multiplies its whole kernel at every output voxel, a transposed one at every
    input voxel. Biases, norms and activations are left out.
    """
    if isinstance(layer, _TRANSPOSED):
        places = layer.input.shape[1:-1]
    elif isinstance(layer, _CONVOLUTIONS):
        places = layer.output.shape[1:-1]
    else:
        return 0
    return 2 * math.prod(places) * math.prod(layer.kernel.shape)


def forward_flops(network: Any) -> int:
    """Of the forward pass of one sample."""
    return sum(layer_flops(layer) for layer in network.layers)


def step_flops(network: Any) -> int:
    """Of the training step of one sample: forward, gradient by weights, gradient by inputs.

    Nobody needs the gradient by the image, so convolutions of the image have two parts only.
    """
    image = network.inputs[0]
    first = sum(layer_flops(layer) for layer in network.layers if _reads(layer, image))
    return 3 * forward_flops(network) - first


def _reads(layer: Any, tensor: Any) -> bool:
    return layer_flops(layer) > 0 and layer.input is tensor
