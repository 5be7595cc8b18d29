"""Gradients and compiled functions of whatever backend the tests run on."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops


@contextlib.contextmanager
def double_precision():
    """Let float64 arrays stay what they are: JAX makes them float32 unless told otherwise."""
    if keras.backend.backend() == "jax":
        import jax

        with jax.enable_x64(True):
            yield
    else:
        yield


def slope(function, z):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tensor = tf.constant(z)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = tf.reduce_sum(function(tensor))
        found = tape.gradient(value, tensor)
        return np.zeros_like(z) if found is None else found.numpy()
    if backend == "jax":
        import jax

        with double_precision():
            return np.asarray(jax.grad(lambda t: ops.sum(function(t)))(ops.convert_to_tensor(z)))
    import torch

    tensor = torch.tensor(z, requires_grad=True)
    value = function(tensor).sum()
    if not value.requires_grad:
        return np.zeros_like(z)
    value.backward()
    return tensor.grad.numpy()


class Compiled:
    """A function as the backend compiles it; ``traces`` counts how often."""

    def __init__(self, function):
        self.traces = 0

        def traced(*tensors):
            self.traces += 1
            return function(*tensors)

        backend = keras.backend.backend()
        if backend == "tensorflow":
            import tensorflow as tf

            self._call = tf.function(traced)
        elif backend == "jax":
            import jax

            self._call = jax.jit(traced)
        else:
            pytest.skip("torch does not compile here")

    def __call__(self, *arrays):
        return self._call(*[ops.convert_to_tensor(array) for array in arrays])


@pytest.fixture(scope="session")
def gradient():
    """``gradient(function, z)``: of the sum of what the function returns, in the dtype of z."""
    return slope


@pytest.fixture(scope="session")
def value():
    """``value(function, *arrays)``: results as arrays, float64 where the arrays are."""

    def call(function, *arrays):
        with double_precision():
            result = function(*[ops.convert_to_tensor(array) for array in arrays])
            return keras.tree.map_structure(ops.convert_to_numpy, result)

    return call


@pytest.fixture(scope="session")
def compiled():
    """``compiled(function)``: see :class:`Compiled`."""
    return Compiled
