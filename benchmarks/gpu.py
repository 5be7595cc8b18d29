"""Training steps on an accelerator, and the share of its peak that they reach.

Runs on its own, `python -m benchmarks.gpu --backend jax`, with Keras, its backend, numpy,
pydantic and PyYAML installed and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import document, table, write
from benchmarks.timing import Spread

_PATCHES = ((96, 96, 96), (128, 128, 128))
_FEATURES = (32, 64, 128, 256)


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """As part of ``python -m benchmarks``: the default backend and device."""
    if smoke:
        return measure("tensorflow", [(8, 8, 8)], (2, 4), 1, 1, repeat, "auto", None)
    return measure("tensorflow", _PATCHES, _FEATURES, 2, 10, repeat, "auto", None)


def measure(
    backend: str,
    patches: Sequence[tuple[int, ...]],
    features: tuple[int, ...],
    batch: int,
    steps: int,
    repeat: int,
    precision: str,
    peak_tflops: float | None,
) -> list[dict[str, Any]]:
    """A row per patch, measured in this process."""
    from segpipe.backend import is_out_of_memory, select

    device = select(backend, precision=precision)

    from benchmarks.training import Work

    rows = []
    for patch in patches:
        work = Work(features, patch, batch)
        row: dict[str, Any] = {"work": str(work), "device": device.describe()}
        try:
            row |= _measure_one(work, device.jit, steps, repeat, peak_tflops)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            row |= {"s/step": None, "note": "does not fit into the memory"}
        rows.append(row)
    return rows


def _measure_one(work, jit: bool, steps: int, repeat: int, peak: float | None) -> dict[str, Any]:
    from benchmarks.flops import step_flops
    from benchmarks.training import PENALTIES, make_batch, make_trainer, seconds_per_step

    trainer, data = make_trainer(work, PENALTIES, jit=jit), make_batch(work)
    first = seconds_per_step(trainer, data, 1)
    seconds_per_step(trainer, data, 2)
    taken = Spread(tuple(seconds_per_step(trainer, data, steps) for _ in range(repeat)))
    tflop = step_flops(trainer.network) * work.batch / 1e12
    row = {
        "first step s": first,
        "s/step": taken,
        "voxels/s": taken.per(work.voxels),
        "TFLOP/step": tflop,
        "TFLOP/s": taken.per(tflop),
    }
    if peak is not None:
        row["share of peak"] = taken.per(tflop / peak)
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), default="jax")
    parser.add_argument("--precision", default="auto", help="Keras dtype policy")
    parser.add_argument("--patch", type=int, nargs="+", action="append", help="may be repeated")
    parser.add_argument("--features", type=int, nargs="+", default=_FEATURES)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="steps of one measurement")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peak-tflops", type=float, help="of the device, for the share of it")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(arguments)
    patches = [tuple(patch) for patch in options.patch or _PATCHES]
    rows = measure(
        options.backend,
        patches,
        tuple(options.features),
        options.batch,
        options.steps,
        options.repeat,
        options.precision,
        options.peak_tflops,
    )
    print(table(rows))
    if options.json is not None:
        write(options.json, document("gpu", rows))


if __name__ == "__main__":
    main()
