import importlib.util
import os
import sys

import keras
import numpy as np
import pytest

from segpipe.backend import (
    Device,
    computing_in,
    has_gpu,
    is_out_of_memory,
    possible_precision,
    select,
)
from segpipe.backend.callbacks import call_on_host, choose_labelling
from segpipe.backend.feeding import feed
from segpipe.errors import ConfigError, DataError, ModelError

HERE = keras.backend.backend()
OTHER = "jax" if HERE != "jax" else "torch"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Give back the switches that selecting sets."""
    names = ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "XLA_FLAGS", "KERAS_BACKEND")
    for name in (*names, "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.mark.skipif(HERE != "tensorflow", reason="TensorFlow's switches")
def test_onednn_is_asked_for_on_x86_unless_the_user_says_otherwise(monkeypatch):
    name = "TF_ENABLE_ONEDNN_OPTS"
    for flags, own, expected in (
        ({"avx2"}, None, "1"),
        ({"avx2"}, "0", "0"),
        (set(), None, None),
    ):
        monkeypatch.setattr("segpipe.backend.switches.cpu_flags", lambda flags=flags: flags)
        monkeypatch.delenv(name, raising=False)
        if own is not None:
            monkeypatch.setenv(name, own)
        select(HERE, device="cpu", precision="float32")
        assert os.environ.get(name) == expected


@pytest.mark.skipif(HERE != "tensorflow", reason="TensorFlow's allocator")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults")
def test_memory_that_one_step_frees_is_kept_for_the_next():
    import resource

    size = 2**24  # floats: 64 MiB, which malloc maps anew every time
    x = keras.ops.ones((size,))
    keras.ops.multiply(x, 2.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        keras.ops.multiply(x, 2.0)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < size * 4 / resource.getpagesize()  # of one of the eight


def test_another_backend_than_the_running_one_is_refused():
    with pytest.raises(ConfigError, match=f"runs on {HERE}; expected {OTHER}.*start another"):
        select(OTHER, device="cpu")
    assert keras.backend.backend() == HERE


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_missing_backend_is_named_with_the_fix(monkeypatch, backend):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"{backend} is not installed.*pip install {backend}"):
        select(backend, device="cpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("segpipe.backend._gpus", lambda backend: [])
    with pytest.raises(ModelError, match=r"expected a GPU.*received none.*train\.device=cpu"):
        select(HERE, device="gpu")
    assert not has_gpu(HERE)


def test_a_cpu_is_deterministic_float32_unless_asked_otherwise(monkeypatch):
    monkeypatch.setattr("segpipe.backend.cpu_flags", set)
    monkeypatch.setattr("segpipe.backend.cpu_name", lambda: "Abacus")
    monkeypatch.setattr("segpipe.backend._make_deterministic", lambda backend: None)
    policy = keras.config.dtype_policy().name
    device = select(HERE, device="cpu")
    assert device == Device(HERE, "cpu", "Abacus", "float32", True, HERE == "jax")
    assert select(HERE, device="cpu", deterministic=False).deterministic is False
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize(
    ("flags", "backend", "expected"),
    [
        ({"amx_bf16"}, "tensorflow", "mixed_bfloat16"),
        ({"avx512_bf16", "sse"}, "torch", "mixed_bfloat16"),
        ({"amx_bf16"}, "jax", "float32"),
        ({"avx2"}, "tensorflow", "float32"),
    ],
)
def test_precision_follows_the_processor(monkeypatch, flags, backend, expected):
    from segpipe.backend import _best_precision

    monkeypatch.setattr("segpipe.backend.cpu_flags", lambda: flags)
    assert _best_precision(backend, "cpu") == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 5), "mixed_float16"), ((8, 0), "mixed_bfloat16"), ((10, 0), "mixed_bfloat16")],
)
def test_precision_follows_the_gpu(monkeypatch, capability, expected):
    from segpipe.backend import _best_precision

    monkeypatch.setattr("segpipe.backend._gpu_capability", lambda backend: capability)
    assert _best_precision("tensorflow", "gpu") == expected


def test_the_seed_decides_the_weights():
    def weights(seed):
        select(HERE, device="cpu", precision="float32", seed=seed)
        layer = keras.layers.Dense(3)
        layer.build((None, 4))
        return layer.get_weights()[0].tolist()

    assert weights(1) == weights(1) != weights(2)


class ResourceExhaustedError(Exception):
    pass


class OutOfMemoryError(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ResourceExhaustedError("failed to allocate"), True),
        (OutOfMemoryError("CUDA"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (ValueError("RESOURCE_EXHAUSTED: Out of memory while trying"), True),
        (RuntimeError("OOM when allocating tensor with shape[4,32]"), True),
        (ValueError("shapes differ"), False),
        (KeyError("room"), False),
        (ValueError("case ZOOM01: truncated"), False),
        (OSError(28, "No space left on device", "/data/OOM/x.npy"), False),
        (DataError("case OOM", "truncated"), False),
    ],
)
def test_exhausted_memory_is_recognised_whatever_the_backend(error, expected):
    assert is_out_of_memory(error) is expected


def test_the_device_is_described_for_people_and_for_tracking():
    device = Device("jax", "gpu", "H9", "mixed_bfloat16", False, True)
    assert device.describe() == "gpu (H9), jax, mixed_bfloat16, not deterministic, XLA"
    assert device.to_params() == {
        "device.backend": "jax",
        "device.kind": "gpu",
        "device.name": "H9",
        "device.precision": "mixed_bfloat16",
        "device.deterministic": False,
        "device.jit": True,
    }


@pytest.mark.parametrize(
    ("wanted", "kind", "expected"),
    [
        ("auto", "cpu", "host"),
        ("auto", "gpu", "graph"),
        ("graph", "cpu", "graph"),
        ("host", "gpu", "host"),
    ],
)
def test_components_are_labelled_where_it_is_fast_unless_told_otherwise(wanted, kind, expected):
    device = Device("tensorflow", kind, "H9", "float32", True, False)
    assert choose_labelling(wanted, device) == expected


def test_the_host_cannot_be_called_from_a_step_that_xla_compiles():
    compiled = Device("tensorflow", "gpu", "H9", "float32", False, True)
    with pytest.raises(
        ConfigError, match=r"loss\.labelling: expected auto or graph.*received host"
    ):
        choose_labelling("host", compiled)
    assert choose_labelling("host", Device("jax", "gpu", "H9", "float32", False, True)) == "host"


def test_the_host_gets_an_array_and_its_answer_comes_back_as_a_tensor():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    seen = []

    def work(values):
        seen.append(values)
        return (10 * values).astype(np.int32)

    answer = call_on_host(work, keras.ops.convert_to_tensor(array), "int32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(answer), 10 * array)
    assert keras.backend.standardize_dtype(answer.dtype) == "int32"
    assert isinstance(seen[0], np.ndarray)
    np.testing.assert_array_equal(seen[0], array)


def test_a_network_predicts_in_the_precision_of_its_training_where_the_device_can(monkeypatch):
    able = Device("tensorflow", "cpu", "c", "mixed_bfloat16", True, False)
    plain = Device("tensorflow", "cpu", "c", "float32", True, False)
    monkeypatch.setattr("segpipe.backend.cpu_flags", lambda: {"avx512_bf16"})
    assert possible_precision(able, None) == "mixed_bfloat16"
    assert possible_precision(able, "float32") == "float32"
    assert possible_precision(plain, "mixed_bfloat16") == "mixed_bfloat16"
    assert possible_precision(plain, "mixed_float16") == "float32"
    monkeypatch.setattr("segpipe.backend.cpu_flags", set)
    assert possible_precision(plain, "mixed_bfloat16") == "float32"
    assert possible_precision(able, "mixed_bfloat16") == "mixed_bfloat16"  # asked for by name
    monkeypatch.setattr("segpipe.backend._gpu_capability", lambda backend: (7, 0))
    old = Device("tensorflow", "gpu", "g", "mixed_float16", False, True)
    assert possible_precision(old, "mixed_bfloat16") == "float32"


def test_a_precision_holds_for_what_is_built_meanwhile():
    before = keras.config.dtype_policy().name
    with computing_in("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == before


class Numbered(keras.utils.PyDataset):
    """Three batches of images and targets; the last has one sample."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        samples = 1 if index == 2 else 2
        image = np.full((samples, 4, 2), index, np.float32)
        return image, np.full((samples, 4, 1), 10 * index, np.uint8)


def test_batches_are_fed_in_order_and_without_a_tuner():
    fed = feed(Numbered())
    assert int(fed.cardinality()) == 3
    assert fed.options().autotune.enabled is False
    for index, (image, target) in enumerate(fed):
        np.testing.assert_array_equal(image, Numbered()[index][0])
        np.testing.assert_array_equal(target, Numbered()[index][1])
        assert target.dtype == "uint8"
    assert index == 2
