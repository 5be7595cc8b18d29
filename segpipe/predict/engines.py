"""What computes the network: Keras on any device, or OpenVINO on a CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from segpipe.backend import is_out_of_memory
from segpipe.backend.openvino import convert_for_openvino, expect_openvino, import_openvino
from segpipe.errors import ModelError

Engine = Callable[[np.ndarray], np.ndarray]


def choose_engine(wanted: str, device_kind: str, backend: str) -> str:
    """The engine that ``auto`` stands for here.

    OpenVINO on a CPU where it is installed and the backend is the one it converts from; Keras
    elsewhere.

    Raises
    ------
    ConfigError
        If OpenVINO is asked for and missing, or cannot convert from the backend.
    """
    if wanted == "openvino":
        expect_openvino(backend)
    if wanted != "auto":
        return wanted
    possible = device_kind == "cpu" and backend == "tensorflow"
    return "openvino" if possible and importlib.util.find_spec("openvino") else "keras"


def make_engine(name: str, network: Any, batch: int) -> Engine:
    """A function from tiles to logits.

    Parameters
    ----------
    name : {'keras', 'openvino'}
        OpenVINO computes in bfloat16 where the network's policy does and the processor can, else
        in float32.
    network : keras.Model
        With one output.
    batch : int
        Tiles per call; every call must bring exactly as many.

    Returns
    -------
    callable
        (batch, \\*patch, C) float32 to (batch, \\*patch, outputs) float32.

    Raises
    ------
    ConfigError
        If OpenVINO is asked for and missing.
    """
    shape = (batch, *network.input_shape[1:])
    if name == "openvino":
        return _openvino_engine(network, shape)

    def run(tiles: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(network.predict_on_batch(tiles), dtype=np.float32)
        except Exception as error:
            if is_out_of_memory(error):
                raise ModelError(
                    f"predict: expected {batch} tiles of {shape[1:-1]} to fit into the device's "
                    "memory; they do not. Set predict.batch=1, or train with a smaller "
                    "train.patch."
                ) from error
            raise

    return run


def _openvino_engine(network: Any, shape: tuple[int, ...]) -> Engine:
    model = convert_for_openvino(network, shape)
    core = import_openvino().Core()
    # Without the hint OpenVINO takes bfloat16 wherever the processor has it, asked for or not.
    asked = any(layer.compute_dtype == "bfloat16" for layer in network.layers)
    able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precision = "bf16" if asked and able else "f32"
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(model, "CPU", settings)

    def run(tiles: np.ndarray) -> np.ndarray:
        return np.asarray(compiled([tiles])[0], dtype=np.float32)

    return run
