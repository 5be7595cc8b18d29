"""The only room that knows TensorFlow, JAX and torch by name.

``select`` must run before anything imports Keras: Keras reads its backend once.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from segpipe.backend.processor import cpu_flags, cpu_name
from segpipe.backend.switches import prepare_environment
from segpipe.errors import ConfigError, ModelError, SegpipeError

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Device:
    """What computes, and how. Printed and tracked with every run.

    Parameters
    ----------
    backend : str
        tensorflow, jax or torch.
    kind : str
        cpu or gpu.
    name : str
        The processor's or accelerator's own name.
    precision : str
        Keras dtype policy.
    deterministic : bool
        Whether equal inputs give equal bits.
    jit : bool
        Whether XLA compiles the training step.
    """

    backend: str
    kind: str
    name: str
    precision: str
    deterministic: bool
    jit: bool

    def describe(self) -> str:
        """One line for people."""
        mode = "deterministic" if self.deterministic else "not deterministic"
        xla = ", XLA" if self.jit else ""
        return f"{self.kind} ({self.name}), {self.backend}, {self.precision}, {mode}{xla}"

    def to_params(self) -> dict[str, str | bool]:
        """For tracking, as ``device.*``."""
        return {f"device.{key}": value for key, value in asdict(self).items()}


def select(
    backend: str = "tensorflow",
    device: str = "auto",
    precision: str = "auto",
    deterministic: bool | None = None,
    seed: int = 0,
) -> Device:
    """Choose backend, device, precision and determinism for this process.

    Parameters
    ----------
    backend : {'tensorflow', 'jax', 'torch'}
    device : {'auto', 'cpu', 'gpu'}
    precision : {'auto', 'float32', 'mixed_bfloat16', 'mixed_float16'}
        auto is mixed_bfloat16 where the device computes bfloat16, mixed_float16 on older
        GPUs and float32 elsewhere.
    deterministic : bool, optional
        None: yes on a CPU, no on a GPU.
    seed : int
        Seeds Python, NumPy and the backend (weight initialisation).

    Returns
    -------
    Device

    Raises
    ------
    ConfigError
        If the backend is not installed, or Keras already runs on another one.
    ModelError
        If a GPU is asked for and there is none.
    """
    prepare_environment(backend, device, deterministic)
    _choose_backend(backend)
    gpus = _gpus(backend) if device != "cpu" else []
    if device == "gpu" and not gpus:
        raise ModelError(
            f"train.device: expected a GPU that {backend} can use; received none. Install "
            "segpipe[gpu] and a driver, or set train.device=cpu."
        )
    kind = "gpu" if gpus else "cpu"
    if deterministic is None:
        deterministic = kind == "cpu"
    if precision == "auto":
        precision = _best_precision(backend, kind)
    import keras

    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    keras.config.set_image_data_format("channels_last")  # whatever a keras.json says
    if deterministic:
        _make_deterministic(backend)
    jit = backend == "jax" or (kind == "gpu" and backend == "tensorflow" and not deterministic)
    name = gpus[0] if gpus else cpu_name()
    return Device(backend, kind, name, precision, deterministic, jit)


def has_gpu(backend: str = "tensorflow") -> bool:
    """Whether a backend finds a GPU on this machine."""
    prepare_environment(backend, "auto", None)
    _choose_backend(backend)
    return bool(_gpus(backend))


def auto_precision(backend: str, kind: str) -> str:
    """What ``precision: auto`` gives on a cpu or gpu, once :func:`has_gpu` has loaded a backend."""
    return _best_precision(backend, kind)


def possible_precision(device: Device, trained: str | None) -> str:
    """The precision to predict in, of a network that was trained in a certain one.

    Parameters
    ----------
    device : Device
        As :func:`select` gave it.
    trained : str or None
        Keras dtype policy of the training; None: not known.

    Returns
    -------
    str
        That of the training where the device computes it, else float32; that of the device where
        nothing is known.
    """
    if trained is None or trained == device.precision:
        return device.precision
    possible = {_best_precision(device.backend, device.kind)}
    if device.kind == "gpu":
        possible.add("mixed_float16")
    return trained if trained in possible else "float32"


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Let networks that are built meanwhile compute in a precision; then restore the former one."""
    import keras

    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(former)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of any backend says that the device's memory is exhausted.

    One of the system or of this program does not, whatever the names of files in it.
    """
    if isinstance(error, OSError | SegpipeError):
        return False
    text = f"{type(error).__name__} {error}"
    signs = r"ResourceExhausted|RESOURCE_EXHAUSTED|OutOfMemory|out of memory|\bOOM\b"
    return re.search(signs, text) is not None


def _choose_backend(backend: str) -> None:
    if "keras" in sys.modules:
        import keras

        if keras.backend.backend() != backend:
            raise ConfigError(
                f"backend: Keras already runs on {keras.backend.backend()}; expected {backend}. "
                "One process has one backend: start another."
            )
        return
    if importlib.util.find_spec(backend) is None:
        raise ConfigError(
            f"backend: {backend} is not installed. Install it (pip install {backend}), or choose "
            "another backend."
        )
    os.environ["KERAS_BACKEND"] = backend
    with _silenced_stderr():
        importlib.import_module(backend)
        importlib.import_module("keras")


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Hide what C++ libraries print while they load; errors still come as exceptions."""
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def _gpus(backend: str) -> list[str]:
    if backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        for device in devices:
            tf.config.experimental.set_memory_growth(device, True)
        details = [tf.config.experimental.get_device_details(device) for device in devices]
        return [detail.get("device_name", "GPU") for detail in details]
    if backend == "jax":
        import jax

        return [d.device_kind for d in jax.devices() if d.platform == "gpu"]
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _best_precision(backend: str, kind: str) -> str:
    if kind == "cpu":
        # JAX and torch gain nothing from bfloat16 convolutions on a CPU that they emulate.
        flags = cpu_flags()
        return "mixed_bfloat16" if flags & _BFLOAT16_FLAGS and backend != "jax" else "float32"
    return "mixed_bfloat16" if _gpu_capability(backend) >= (8, 0) else "mixed_float16"


def _gpu_capability(backend: str) -> tuple[int, int]:
    if backend == "tensorflow":
        import tensorflow as tf

        device = tf.config.list_physical_devices("GPU")[0]
        details = tf.config.experimental.get_device_details(device)
        return tuple(details.get("compute_capability", (0, 0)))
    if backend == "jax":
        import jax

        text = getattr(jax.devices("gpu")[0], "compute_capability", "0.0")
        major, _, minor = str(text).partition(".")
        return int(major), int(minor or 0)
    import torch

    return torch.cuda.get_device_capability(0)


def _make_deterministic(backend: str) -> None:
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif backend == "torch":
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)
