"""Work that stays on the host, from inside a compiled step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from segpipe.backend import Device
from segpipe.errors import ConfigError

Labelling = Literal["graph", "host"]


def call_on_host(function: Callable[[np.ndarray], np.ndarray], tensor: Any, dtype: str) -> Any:
    """Apply a NumPy function to a tensor, eager or compiled, without a gradient.

    Parameters
    ----------
    function : callable
        An array to one of the same shape and of ``dtype``; the same for the same array.
    tensor : tensor
    dtype : str
        Of the result.

    Returns
    -------
    tensor
        On the device of ``tensor``.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        result = tf.numpy_function(function, [tf.stop_gradient(tensor)], dtype, stateful=False)
        result.set_shape(tensor.shape)
        return result
    if backend == "jax":
        import jax

        shape = jax.ShapeDtypeStruct(tensor.shape, dtype)
        return jax.pure_callback(lambda array: function(np.asarray(array)), shape, tensor)
    import torch

    return torch.from_numpy(function(tensor.detach().cpu().numpy())).to(tensor.device)


def choose_labelling(wanted: Literal["auto", "graph", "host"], device: Device) -> Labelling:
    """Where connected components are labelled while training.

    Parameters
    ----------
    wanted : {'auto', 'graph', 'host'}
        auto: on the host beside a CPU, which is several times as fast there; in the graph on a
        GPU, which a callback would stop at every step.
    device : Device
        That trains.

    Raises
    ------
    ConfigError
        If the host is wanted inside a step that TensorFlow compiles by XLA, which calls nobody.
    """
    if wanted == "host" and device.jit and device.backend == "tensorflow":
        raise ConfigError(
            "loss.labelling: expected auto or graph, as XLA compiles the training step; received "
            "host. Set loss.labelling=auto, or train.deterministic=true, which does without XLA."
        )
    if wanted != "auto":
        return wanted
    return "host" if device.kind == "cpu" else "graph"
