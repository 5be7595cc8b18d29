"""Variables of the environment that the backends read once, when they are imported."""

from __future__ import annotations

import os

from segpipe.backend.processor import cpu_flags, memory_mb

_JAX_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
_SWITCHES_OF_BITS = (
    *("TF_ENABLE_ONEDNN_OPTS", "TF_CPU_ALLOCATOR_USE_BFC", "TF_XLA_FLAGS", "XLA_FLAGS"),
    *("ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "NVIDIA_TF32_OVERRIDE"),
)


def prepare_environment(
    backend: str = "tensorflow", device: str = "auto", deterministic: bool | None = None
) -> None:
    """Set the switches that the backends read once, when they are imported.

    :func:`segpipe.backend.select` calls it, too late where Keras has been imported already: a
    process whose first task is a function of a module that needs Keras has to call it itself. What
    the user has set of TensorFlow's switches stands. The parameters are those of ``select``; a
    device of cpu hides the GPUs.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
    if backend == "tensorflow":
        for name, value in _tensorflow_on_a_cpu().items():
            os.environ.setdefault(name, value)
    flags = os.environ.get("XLA_FLAGS", "")
    if backend == "jax" and deterministic and _JAX_DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_JAX_DETERMINISTIC}".strip()


def switches_of_bits() -> dict[str, str]:
    """Variables of the environment that are set and change how the backends round.

    The same seed gives the same bits only with the same ones. They are those of now: complete
    after :func:`prepare_environment`, which sets some itself.
    """
    return {name: os.environ[name] for name in _SWITCHES_OF_BITS if os.environ.get(name)}


def _tensorflow_on_a_cpu() -> dict[str, str]:
    """What TensorFlow could do for a CPU, and does only if asked.

    What a step frees is kept for the next one: given back to the system and asked for anew, it
    costs up to a third of the processor time. And oneDNN computes the convolutions of every x86
    CPU, not only of those with instructions for neural networks: a step with AVX2 takes a half to
    a fifth of the time (docs/benchmarks.md).
    """
    switches = {
        "TF_CPU_ALLOCATOR_USE_BFC": "1",
        "TF_CPU_BFC_MEM_LIMIT_IN_MB": f"{memory_mb() / 1.048576:.0f}",
    }
    if "avx2" in cpu_flags():
        switches["TF_ENABLE_ONEDNN_OPTS"] = "1"
    return switches
