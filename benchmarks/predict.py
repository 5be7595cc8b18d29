"""A whole brain through the sliding window: Keras against OpenVINO, and whether they agree."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import numpy as np

from benchmarks.timing import alternate, fresh, seconds

_SHAPE, _PATCH, _FEATURES, _STEPS = (182, 218, 182), (48, 48, 48), (16, 32, 64, 128), 60
_SMOKE = ((24, 20, 16), (16, 16, 16), (4, 8), 20)


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """A row per engine and precision, all with the same briefly trained weights."""
    return fresh(measure, *(_SMOKE if smoke else (_SHAPE, _PATCH, _FEATURES, _STEPS)), repeat)


def measure(shape, patch, features, steps: int, repeat: int) -> list[dict[str, Any]]:
    """Time and agreement with Keras in float32; in a process of its own."""
    from segpipe.backend import select

    best = select(device="cpu").precision

    from benchmarks.training import Work, make_batch
    from segpipe.predict.engines import make_engine
    from segpipe.predict.window import predict_volume

    networks = _networks(Work(features, patch, 2), dict.fromkeys(("float32", best)), steps)
    kinds = ["keras", "openvino"] if importlib.util.find_spec("openvino") else ["keras"]
    volume, target = (part[0] for part in make_batch(Work(features, shape, 1), seed=99))
    results: dict[str, np.ndarray] = {}

    def predict(name: str, engine) -> None:
        results[name] = predict_volume(volume, engine, patch=patch, overlap=0.5, batch=1)

    engines = {
        f"{kind} {precision}": make_engine(kind, network, 1)
        for precision, network in networks.items()
        for kind in kinds
    }
    for engine in engines.values():
        engine(np.zeros((1, *patch, volume.shape[-1]), np.float32))  # compiles
    taken = alternate(
        {n: partial(seconds, partial(predict, n, e)) for n, e in engines.items()}, repeat
    )
    base = "keras float32"
    return [
        {
            "engine": name,
            "s/volume": taken[name],
            "speed-up": taken[base].over(taken[name]),
            **_agreement(results[base], results[name], target[..., 0] > 0),
        }
        for name in engines
    ]


def _networks(work, precisions, steps: int) -> dict[str, Any]:
    """One network per precision with equal weights that find most lesions."""
    import keras

    from benchmarks.training import PLAIN, make_batch, make_trainer

    trained = None
    networks = {}
    for precision in reversed(precisions):  # the fastest trains
        keras.config.set_dtype_policy(precision)
        trainer = make_trainer(work, PLAIN, jit=False)
        if trained is None:
            for step in range(steps):
                trainer.train_on_batch(*make_batch(work, seed=step))
            trained = trainer.network.get_weights()
        trainer.network.set_weights(trained)
        networks[precision] = trainer.network
    return networks


def _agreement(expected: np.ndarray, got: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    from segpipe.lesions.components import label_components

    masks = expected[..., 0] > 0.5, got[..., 0] > 0.5
    overlap = dice(*masks)
    return {
        "max |Δp|": float(np.abs(expected - got).max()),
        "1 − Dice of masks": None if overlap is None else 1 - overlap,
        "components": label_components(masks[1])[1],
        "Dice of lesions": dice(masks[1], reference),
    }


def dice(one: np.ndarray, other: np.ndarray) -> float | None:
    """Of two masks; None if both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else None
