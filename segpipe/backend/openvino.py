"""Networks converted for OpenVINO."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from segpipe.errors import ConfigError


def convert_for_openvino(network: Any, input_shape: tuple[int, ...]) -> Any:
    """An OpenVINO model of a Keras network with a fixed input shape.

    The model is float32 whatever the network's precision: OpenVINO chooses the precision of each
    operation when it compiles, and cannot read bfloat16 from a graph.

    Parameters
    ----------
    network : keras.Model
    input_shape : tuple of int
        With the batch axis first.

    Raises
    ------
    ConfigError
        If OpenVINO is missing, or the backend is not TensorFlow, from which it converts.
    """
    import keras

    openvino = expect_openvino(keras.backend.backend())
    import tensorflow as tf

    signature = [tf.TensorSpec(input_shape, tf.float32)]
    function = tf.function(lambda x: network(x, training=False), input_signature=signature)
    with _computing_float32(network):
        graph = function.get_concrete_function()
    return openvino.convert_model(graph)


def expect_openvino(backend: str) -> Any:
    """OpenVINO, where it can convert networks of a Keras backend.

    Raises
    ------
    ConfigError
        If OpenVINO is missing, or the backend is not TensorFlow.
    """
    openvino = import_openvino()
    if backend != "tensorflow":
        raise ConfigError(
            f"predict.engine: openvino converts from backend tensorflow; received {backend}. "
            "Choose engine keras."
        )
    return openvino


def import_openvino() -> Any:
    """OpenVINO, kept from reporting usage over the network.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    # Without this package OpenVINO falls back to a stub that sends nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise ConfigError(
            "predict.engine: expected OpenVINO to be installed; it is not. Install it with "
            "pip install 'segpipe[openvino]', or choose engine keras."
        ) from error


@contextlib.contextmanager
def _computing_float32(network: Any) -> Iterator[None]:
    """Let every layer compute in float32; weights are float32 in any case."""
    layers = [network, *network.layers]
    policies = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy
