"""Patches: milliseconds to draw one, and the share of a step that waits for them."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.timing import Spread, alternate, fresh, seconds


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """Rows for drawing from disk and memory, then rows for training with that many workers."""
    return fresh(measure, repeat, smoke)


def measure(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """In a process of its own, on sample cases in a temporary folder."""
    from segpipe.backend import select

    device = select()
    with tempfile.TemporaryDirectory() as folder:
        config, cases, spacing_mm = _prepare(Path(folder), smoke)
        return [
            *_drawing(config, cases, spacing_mm, repeat, 2 if smoke else 40),
            *_waiting(config, cases, spacing_mm, repeat, device.jit),
        ]


def _prepare(folder: Path, smoke: bool):
    """Configuration, prepared cases and spacing of the samples' own settings."""
    from segpipe.config import parse
    from segpipe.data.layouts import open_dataset
    from segpipe.data.splits import make_folds
    from segpipe.observer import Silent
    from segpipe.pipeline.prepare import plan_for, prepare_cases
    from segpipe.samples import make_samples

    make_samples(folder / "data", cases=6, spacing_mm=4.0 if smoke else 1.5)
    patch, features, steps = ([48] * 3, [16, 32, 64, 128], 10)
    if smoke:
        patch, features, steps = [16] * 3, [2, 4], 2
    regions = [
        {"name": "wm", "source": "mask", "file": "anatomy/{case}_wm.nii.gz", "weight": 0.5},
        {"name": "elsewhere", "source": "complement", "weight": 2.0},
    ]
    config = parse(
        {
            "name": "loading",
            "output": str(folder / "runs"),
            "data": {"root": str(folder / "data")},
            "split": {"folds": 1},
            "prepare": {"workers": 1},
            "anatomy": {"regions": regions},
            "model": {"features": features},
            "train": {"patch": patch, "batch": 4, "steps_per_epoch": steps},
        }
    )
    dataset = open_dataset(config.data)
    plan = plan_for(dataset, make_folds(dataset.cases, config.split)[0], config)
    prepared = prepare_cases(dataset.cases, dataset, plan, config, Silent())
    return config, list(prepared.cases.values()), plan.spacing_mm


def _sampler(config, cases, spacing_mm, *, memory: bool, augment: bool = True):
    from segpipe.augment import build
    from segpipe.batches import PatchSampler, keep_in_memory

    settings = config.augment.model_copy(update={"enabled": augment})
    return PatchSampler(
        keep_in_memory(cases, config.train.memory_mb if memory else 0.0),
        config,
        build(settings, config.train.patch, spacing_mm),
        spacing_mm,
    )


def _drawing(config, cases, spacing_mm, repeat: int, count: int) -> list[dict[str, Any]]:
    def draw(sampler) -> float:
        return 1000 * seconds(lambda: [sampler.draw(n) for n in range(count)]) / count

    samplers = {
        f"draw from {'memory' if memory else 'disk'}, "
        f"{'augmented' if augment else 'as it is'}": _sampler(
            config, cases, spacing_mm, memory=memory, augment=augment
        )
        for memory in (False, True)
        for augment in (False, True)
    }
    for sampler in samplers.values():
        draw(sampler)
    taken = alternate({n: partial(draw, s) for n, s in samplers.items()}, repeat)
    return [{"work": name, "ms/patch": spread} for name, spread in taken.items()]


def _waiting(config, cases, spacing_mm, repeat: int, jit: bool) -> list[dict[str, Any]]:
    """Steps that load, against the same steps on a batch that is already there."""
    from benchmarks.training import PLAIN, Work, make_trainer, seconds_per_step
    from segpipe.backend.feeding import feed
    from segpipe.batches import PatchBatches

    settings = config.train
    steps = settings.steps_per_epoch
    sampler = _sampler(config, cases, spacing_mm, memory=True)
    trainer = make_trainer(
        Work(config.model.features, settings.patch, settings.batch), PLAIN, jit=jit
    )

    def batches(workers: int):
        return PatchBatches(
            sampler.draw, start=0, steps=steps, batch=settings.batch, workers=workers
        )

    def load(workers: int) -> float:
        return (
            seconds(lambda: trainer.fit(feed(batches(workers)), shuffle=False, verbose=0)) / steps
        )

    ready = batches(1)[0]
    seconds_per_step(trainer, ready, 1)
    load(1)
    taken = alternate(
        {
            "step, nothing to load": lambda: seconds_per_step(trainer, ready, steps),
            "step, 1 worker": lambda: load(1),
            "step, 2 workers": lambda: load(2),
        },
        repeat,
    )
    base = taken["step, nothing to load"]
    return [
        {"work": name, "s/step": spread, "waits": _share(base, spread)}
        for name, spread in taken.items()
    ]


def _share(base: Spread, loaded: Spread) -> Spread:
    """Part of each step beyond the time that it takes with its data at hand."""
    return Spread(tuple(max(0.0, 1 - ratio) for ratio in base.over(loaded).samples))
