"""What the switches are worth that segpipe turns on in TensorFlow on a CPU."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import Any

from benchmarks.timing import Spread, fresh

_WORKS = {
    "ms_lesions": ((16, 32, 64, 128), (64, 64, 48), 2),
    "hippocampus": ((32, 64, 128, 256), (40, 56, 40), 4),
}
_SMOKE = {"smoke": ((2, 4), (8, 8, 8), 1)}
_MEMORY, _ONEDNN = "TF_CPU_ALLOCATOR_USE_BFC", "TF_ENABLE_ONEDNN_OPTS"
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "neither": {_MEMORY: "0", _ONEDNN: "0"},
    "memory kept": {_MEMORY: "1", _ONEDNN: "0"},
    "oneDNN": {_MEMORY: "0", _ONEDNN: "1"},
    "both": {_MEMORY: "1", _ONEDNN: "1"},
}


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """A row per network and switches, each measured in a process of its own, in turns."""
    steps = 1 if smoke else 3
    rows = []
    for name, work in (_SMOKE if smoke else _WORKS).items():
        rounds = [
            [fresh(measure, *work, steps, dict(switches)) for switches in _SETTINGS.values()]
            for _ in range(repeat)
        ]
        spreads = [
            {key: Spread(tuple(one[k][key] for one in rounds)) for key in rounds[0][k]}
            for k in range(len(_SETTINGS))
        ]
        for setting, own in zip(_SETTINGS, spreads, strict=True):
            rows.append(
                {
                    "network": name,
                    "switches": setting,
                    "s/step": own["wall"],
                    "processor s/step": own["processor"],
                    "times as fast": spreads[0]["processor"].over(own["processor"]),
                    "page faults/step": own["faults"],
                    "peak MB": own["peak_mb"],
                }
            )
    return rows


def measure(features, patch, batch, steps: int, switches: dict[str, str]) -> dict[str, float]:
    """A training step with all penalties; to be called in a process of its own."""
    os.environ.update(switches)
    from segpipe.backend import select

    device = select(device="cpu")

    from benchmarks.training import PENALTIES, Work, make_batch, make_trainer, seconds_per_step
    from segpipe.backend.callbacks import choose_labelling

    work = Work(features, patch, batch)
    data = make_batch(work)
    labelling = choose_labelling("auto", device)
    trainer = make_trainer(work, PENALTIES, jit=device.jit, labelling=labelling)
    seconds_per_step(trainer, data, 2)  # compiles
    before = resource.getrusage(resource.RUSAGE_SELF)
    wall = seconds_per_step(trainer, data, steps)
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall": wall,
        "processor": spent / steps,
        "faults": (after.ru_minflt - before.ru_minflt) / steps,
        "peak_mb": after.ru_maxrss / 1024,
    }
