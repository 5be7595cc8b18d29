"""Gradients and compiled functions of whatever backend the tests run on, and what NumPy says."""

import contextlib
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

BACKEND = keras.backend.backend()


@contextlib.contextmanager
def double_precision():
    """Let float64 arrays stay what they are: JAX makes them float32 unless told otherwise."""
    if BACKEND == "jax":
        import jax

        with jax.enable_x64(True):
            yield
    else:
        yield


def backend_gradient(function, compile_it):
    """The gradient of the sum of ``function(z, *others)`` with respect to z."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def call(z, *others):
            with tf.GradientTape() as tape:
                tape.watch(z)
                total = tf.reduce_sum(function(z, *others))
            return tape.gradient(total, z, unconnected_gradients="zero")

        return tf.function(call) if compile_it else call
    if BACKEND == "jax":
        import jax

        call = jax.grad(lambda z, *others: ops.sum(function(z, *others)))
        return jax.jit(call) if compile_it else call

    def by_torch(z, *others):
        z = z.requires_grad_()
        total = function(z, *others).sum()
        if total.requires_grad:
            total.backward()
        return ops.zeros_like(z) if z.grad is None else z.grad

    return by_torch


def make_gradient(function, *, compile_it=True):
    call = backend_gradient(function, compile_it)

    def gradient(*arrays):
        with double_precision():
            return ops.convert_to_numpy(call(*[ops.convert_to_tensor(a) for a in arrays]))

    return gradient


class Compiled:
    """A function as the backend compiles it; ``traces`` counts how often it did."""

    def __init__(self, function):
        self.traces = 0

        def traced(*tensors):
            self.traces += 1
            return function(*tensors)

        if BACKEND == "tensorflow":
            import tensorflow as tf

            self._call = tf.function(traced)
        elif BACKEND == "jax":
            import jax

            self._call = jax.jit(traced)
        else:
            pytest.skip("nothing is compiled on torch")

    def __call__(self, *arrays):
        return self._call(*[ops.convert_to_tensor(array) for array in arrays])


@pytest.fixture(scope="session")
def gradient():
    """``gradient(function, z)``: of the sum of what the function returns, in the dtype of z."""
    return lambda function, z: make_gradient(function, compile_it=False)(z)


@pytest.fixture(scope="session")
def gradient_of():
    """``gradient_of(function)``: the same for many arrays of one shape, compiled."""
    return make_gradient


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


def logit(p):
    return math.log(p / (1 - p))


def softplus(z):
    return np.logaddexp(0, z)


def parts_of(mask):
    """Every component of a mask by scipy, as a mask."""
    numbers, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return [numbers == i for i in range(1, count + 1)]


def at_border(part):
    axes = [a for a, n in enumerate(part.shape) if n > 1]
    return any(part.take((0, -1), axis=a).any() for a in axes)


def voxel_count(z, weight, *, threshold, tau, delta, frozen=None):
    """Voxel by voxel; the gate is taken from ``frozen``."""
    frozen = z if frozen is None else frozen
    total = np.zeros(len(z))
    for index in np.ndindex(z.shape):
        if frozen[index] > logit(threshold) - delta:
            w = float(weight[(*index[:-1], 0)])
            u = (float(z[index]) - logit(threshold)) / tau
            total[index[0]] += w * softplus(u) / math.log(2)
    return total


def region_count(z, weight, spared, threshold, *, min_voxels, overlap, cut, frozen=None):
    """Existence and number per sample; what carries no gradient is taken from ``frozen``."""
    frozen = z if frozen is None else frozen
    existence, count = np.zeros(len(z)), np.zeros(len(z))
    for b in range(len(z)):
        for k in range(z.shape[-1]):
            still, moving = frozen[b, ..., k], z[b, ..., k]
            for part in parts_of(still > logit(threshold)):
                near = part & spared[b, ..., 0]
                if near.sum() > overlap * part.sum():
                    continue
                share = cut if cut < 1 and at_border(part) else float(part.sum() >= min_voxels)
                free = part & ~near
                mass = 1 / (1 + np.exp(-still[free]))
                e = (mass / mass.sum() * softplus(moving[free])).sum()
                existence[b] += weight[b, ..., 0][part].mean() * share * e
                count[b] += share > 0
    return existence, count


def missed_lesions(z, reference, threshold, frozen=None):
    frozen = z if frozen is None else frozen
    distance, count = np.zeros(len(z)), np.zeros(len(z))
    for b in range(len(z)):
        for k in range(z.shape[-1]):
            for lesion in parts_of(reference[b, ..., k]):
                if not (frozen[b, ..., k][lesion] > logit(threshold)).any():
                    distance[b] += softplus(-z[b, ..., k][lesion]).mean()
                    count[b] += 1
    return distance, count


@pytest.fixture(scope="session")
def oracle():
    """The penalties in float64 NumPy and scipy, one component after the other."""
    return SimpleNamespace(
        logit=logit,
        softplus=softplus,
        parts_of=parts_of,
        voxel_count=voxel_count,
        region_count=region_count,
        missed_lesions=missed_lesions,
    )
