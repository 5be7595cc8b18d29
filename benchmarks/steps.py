"""Training steps: precision, determinism and what the three penalties cost."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.timing import Spread, alternate, fresh

_WORKS = {
    "samples": ((16, 32, 64, 128), (48, 48, 48), 4),
    "wide": ((32, 64, 128, 256), (40, 56, 40), 9),
}
_SMOKE = {"smoke": ((2, 4), (8, 8, 8), 1)}
_SETTINGS = [(p, d) for p in ("float32", "mixed_bfloat16") for d in (True, False)]
_WITH, _WITHOUT = "with penalties", "without penalties"


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """A row per network, precision and determinism; each process measures both losses."""
    steps = 1 if smoke else 4
    rows = []
    for name, work in (_SMOKE if smoke else _WORKS).items():
        rounds = [
            [fresh(measure, *work, *setting, steps) for setting in _SETTINGS] for _ in range(repeat)
        ]
        base = _spread(rounds, 0, _WITH)
        for i, (precision, deterministic) in enumerate(_SETTINGS):
            taken = _spread(rounds, i, _WITH)
            rows.append(
                {
                    "network": name,
                    "precision": precision,
                    "deterministic": "yes" if deterministic else "no",
                    "s/step": taken,
                    "voxels/s": taken.per(rounds[0][i]["voxels"]),
                    "speed-up": base.over(taken),
                    "cost of penalties": taken.over(_spread(rounds, i, _WITHOUT)),
                }
            )
    return rows


def measure(features, patch, batch, precision: str, deterministic: bool, steps: int) -> dict:
    """Seconds per step with and without the penalties, in alternation; in a process of its own."""
    from segpipe.backend import select

    device = select(precision=precision, deterministic=deterministic)

    from benchmarks.training import (
        PENALTIES,
        PLAIN,
        Work,
        make_batch,
        make_trainer,
        seconds_per_step,
    )
    from segpipe.backend.callbacks import choose_labelling

    work = Work(features, patch, batch)
    data = make_batch(work)
    trainers = {
        name: make_trainer(work, loss, jit=device.jit, labelling=choose_labelling("auto", device))
        for name, loss in ((_WITH, PENALTIES), (_WITHOUT, PLAIN))
    }
    for trainer in trainers.values():
        seconds_per_step(trainer, data, 1)  # compiles
    taken = alternate(
        {n: partial(seconds_per_step, t, data, steps) for n, t in trainers.items()}, 2
    )
    return {"voxels": work.voxels, **{name: spread.samples for name, spread in taken.items()}}


def _spread(rounds: list[list[dict]], setting: int, loss: str) -> Spread:
    return Spread(tuple(s for one in rounds for s in one[setting][loss]))
