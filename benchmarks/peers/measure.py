"""The works that both sides do, in turns."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.jobs import COMPARISONS, OUR_ENVIRONMENT, THREADS
from benchmarks.accuracy.layout import raw_name, write_raw
from benchmarks.accuracy.ours import Watch
from benchmarks.accuracy.ours import train as train_to_bundle
from benchmarks.accuracy.peer import Peer
from benchmarks.peers.settings import FIRST_STEPS, ROTATION_DEGREES
from benchmarks.peers.tree import Cost, watch
from benchmarks.timing import Spread, alternate, fresh, in_turns
from segpipe.backend import auto_precision
from segpipe.config import load
from segpipe.data.layouts import open_dataset

FLOAT32, BFLOAT16 = "float32", "bfloat16 autocast"
"""nnU-Net's arithmetic on a CPU, and a faster one that it can be given."""

STEP_PATCH, STEP_BATCH = (40, 56, 40), 9
WINDOW = (96, 96, 96)
AUGMENTED = (((40, 56, 40), 1), ((64, 64, 48), 2))
"""Patches and channels, as of ``hippocampus`` and ``ms_lesions``."""

SCALE_RANGE = (0.7, 1.4)
"""nnU-Net's in three dimensions."""

_PLAIN = (
    *("tracking.enabled=false", "train.validate_every=0", "evaluate.choose=fixed"),
    "model.block=plain",  # as nnU-Net's default network has them
)


@dataclass(frozen=True)
class Bench:
    """How much, and where.

    Parameters
    ----------
    repeat : int
        Rounds.
    peer : Peer
    work : Path
        Absolute.
    smoke : bool
        Two steps, two patches, the smallest window.
    """

    repeat: int
    peer: Peer
    work: Path
    smoke: bool = False

    def raw(self, dataset: str) -> tuple[int, int]:
        """Write a dataset for nnU-Net, once; its number, and how many cases it has."""
        comparison = COMPARISONS[dataset]
        config = load(comparison.config)
        opened = open_dataset(config.data)
        folder = self.peer.folder / "raw" / raw_name(dataset, comparison.number)
        if not (folder / "dataset.json").exists():
            write_raw(opened, config, folder)
        return comparison.number, len(opened.cases)

    def ask(self, number: int, *arguments: object) -> dict[str, Any]:
        """What nnU-Net's part reports."""
        report = self.work / "report.json"
        self.peer.call(number, [*map(str, arguments), "--report", str(report)])
        return json.loads(report.read_text())

    def command(self, name: str, *arguments: object) -> Cost:
        """One of nnU-Net's own commands."""
        command = [str(self.peer.python.parent / name), *map(str, arguments)]
        return watch(command, self.peer.environment)

    def segpipe(self, *arguments: object) -> Cost:
        """One of ours."""
        start = [sys.executable, "-c", "from segpipe.cli import main; main()"]
        return watch([*start, *map(str, arguments)], os.environ | OUR_ENVIRONMENT)

    def planned(self, dataset: str, patch: Sequence[int], batch: int) -> dict[str, Any]:
        """nnU-Net's hand-made plan of 1 mm with our patch, and its cases; what its network is."""
        number, _ = self.raw(dataset)
        known = self.work / f"plan-{dataset}-{'x'.join(map(str, patch))}-{batch}.json"
        if not known.exists():
            for other in self.work.glob(f"plan-{dataset}-*.json"):  # its place is taken
                other.unlink()
            found = self.ask(number, "plan", "--patch", *reversed(patch), "--batch", batch)
            known.write_text(json.dumps(found))
        return json.loads(known.read_text())


def prepare(bench: Bench) -> list[dict[str, Any]]:
    """Both commands from raw scans to what training reads, on a grid of 1 mm, all of it anew."""
    rows = []
    for dataset in ("hippocampus",) if bench.smoke else ("hippocampus", "ms_lesions"):
        number, cases = bench.raw(dataset)
        config = COMPARISONS[dataset].config

        def ours(config: Path = config) -> Cost:
            output = bench.work / "prepared"
            shutil.rmtree(output, ignore_errors=True)
            own = [f"output={output}", "anatomy.regions=[]", f"prepare.workers={THREADS}"]
            return bench.segpipe("prepare", config, *own)

        def theirs(number: int = number) -> Cost:
            own = ["-overwrite_target_spacing", 1, 1, 1, "-overwrite_plans_name", "of_1_mm"]
            own += ["--clean"]  # the fingerprint anew; cases always are
            return bench.command(
                "nnUNetv2_plan_and_preprocess",
                *("-d", number, "-c", "3d_fullres", "-np", THREADS, "-npfp", THREADS, *own),
            )

        taken = in_turns({"nnU-Net": theirs, "segpipe": ours}, bench.repeat)
        rows += _compared({"work": f"prepare {dataset}", "cases": cases}, taken, cases)
    return rows


def train(bench: Bench) -> list[dict[str, Any]]:
    """Steps of ``hippocampus`` with loading and augmentation: equal patch, batch and features."""
    patch, batch, steps = (STEP_PATCH, STEP_BATCH, 12)
    if bench.smoke:
        patch, batch, steps = (16, 16, 16), 2, 3
    plan = bench.planned("hippocampus", patch, batch)
    own = [
        *(*_PLAIN, f"output={bench.work / 'runs'}", f"model.features={plan['features']}"),
        *(f"train.patch={list(patch)}", f"train.batch={batch}"),
        *(f"train.steps={FIRST_STEPS + steps}", f"train.steps_per_epoch={FIRST_STEPS + steps}"),
        *("model.deep_supervision=true", "augment.mirror_axes=[R, A, S]"),
    ]
    number = COMPARISONS["hippocampus"].number

    def theirs(arithmetic: str) -> list[float]:
        counted = ("--iterations", FIRST_STEPS + steps, "--arithmetic", arithmetic)
        return bench.ask(number, "train", *counted)["seconds"]

    works: dict[str, Callable[[], float]] = {
        "nnU-Net, float32": lambda: batch / float(np.median(theirs(FLOAT32))),
        "segpipe": lambda: batch / float(np.median(fresh(time_steps, "hippocampus", own))),
    }
    if auto_precision("torch", "cpu") == "mixed_bfloat16":
        works["nnU-Net, bfloat16"] = lambda: batch / float(np.median(theirs(BFLOAT16)))
    taken = alternate(works, bench.repeat)
    work = f"train {'×'.join(map(str, patch))}, batch {batch}, {_network(plan)}"
    ours = taken["segpipe"]
    return [
        {"work": work, "side": side, "patches/s": rate, "segpipe: times": ours.over(rate)}
        for side, rate in taken.items()
    ]


class _Clock(Watch):
    """When every step ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def progress(self, done: int, total: int, text: str = "") -> None:
        super().progress(done, total, text)
        if text.startswith("epoch"):
            self.ends.append(time.perf_counter())


def time_steps(dataset: str, overrides: Sequence[str]) -> list[float]:
    """Seconds of our steps after the first; to be called in a process of its own."""
    os.environ.update(OUR_ENVIRONMENT)
    clock = _Clock()
    train_to_bundle(load(COMPARISONS[dataset].config, overrides), 0, clock)
    return np.diff(clock.ends).tolist()[FIRST_STEPS - 1 :]


def augment(bench: Bench) -> list[dict[str, Any]]:
    """nnU-Net's default transforms with their probabilities and ranges, one thread, both sides."""
    number = COMPARISONS["hippocampus"].number  # the command wants one
    count = 2 if bench.smoke else 100
    rows = []
    for patch, channels in AUGMENTED:

        def theirs(patch: Sequence[int] = patch, channels: int = channels) -> float:
            asked = ["--patch", *patch, "--channels", channels, "--patches", count]
            return 1000 * float(np.mean(bench.ask(number, "augment", *asked)["seconds"]))

        def ours(patch: Sequence[int] = patch, channels: int = channels) -> float:
            return 1000 * float(np.mean(fresh(time_patches, patch, channels, count)))

        taken = alternate({"nnU-Net": theirs, "segpipe": ours}, bench.repeat)
        work = f"augment {'×'.join(map(str, patch))}, channels {channels}"
        rows += [
            {
                "work": work,
                "side": side,
                "ms/patch": ms,
                "segpipe: times": ms.over(taken["segpipe"]),
            }
            for side, ms in taken.items()
        ]
    return rows


def time_patches(patch: Sequence[int], channels: int, count: int) -> list[float]:
    """Seconds of our augmentation; to be called in a process of its own."""
    from segpipe.augment import build
    from segpipe.config import AugmentConfig

    # nnU-Net blurs and coarsens each channel with probability 0.5 of that of the transform; it has
    # two gamma curves, of which one turns the intensities round.
    moved = AugmentConfig(
        rotate=0.2, rotate_degrees=ROTATION_DEGREES, scale=0.2, scale_range=SCALE_RANGE, elastic=0.0
    )
    intensities = {"noise": 0.1, "blur": 0.1, "brightness": 0.15, "contrast": 0.15}
    intensities |= {"low_resolution": 0.125, "gamma": 0.37, "bias_field": 0.0}
    settings = moved.model_copy(update=intensities)
    augmenter = build(settings, patch, (1.0, 1.0, 1.0))
    block = augmenter.margin(patch)
    rng = np.random.default_rng(0)
    image = rng.random((*block, channels), np.float32)
    labels = (rng.random(block) < 0.01).astype(np.uint8)
    regions = np.zeros((*block, 0), np.uint8)
    times = []
    for number in range(FIRST_STEPS + count):
        own = np.random.default_rng(number)
        started = time.perf_counter()
        augmenter(image.copy(), labels.copy(), regions, own, patch)
        times.append(time.perf_counter() - started)
    return times[FIRST_STEPS:]


def predict(bench: Bench) -> list[dict[str, Any]]:
    """A 1 mm FLAIR and T1, files in and files out, the same network untrained, no mirroring."""
    window = (64, 64, 64) if bench.smoke else WINDOW
    plan = bench.planned("ms_lesions", window, 2)
    number = COMPARISONS["ms_lesions"].number
    model = bench.ask(number, "untrained")["model"]
    case = "lit07"
    raw = bench.peer.folder / "raw" / raw_name("ms_lesions", number) / "imagesTr"
    scans = bench.work / "scans"
    shutil.rmtree(scans, ignore_errors=True)
    scans.mkdir(parents=True)
    for scan in sorted(raw.glob(f"{case}_*")):
        shutil.copy(scan, scans)
    bundle = fresh(_untrained, bench.work / "runs", plan["features"], window)

    def theirs() -> Cost:
        output = bench.work / "theirs"
        shutil.rmtree(output, ignore_errors=True)
        flags = ("--disable_tta", "-device", "cpu", "-f", 0, "-npp", 1, "-nps", 1)
        return bench.command(
            "nnUNetv2_predict_from_modelfolder", "-i", scans, "-o", output, "-m", model, *flags
        )

    def ours() -> Cost:
        output = bench.work / "ours"
        shutil.rmtree(output, ignore_errors=True)
        return bench.segpipe("predict", "--bundle", bundle, scans, "-o", output)

    taken = in_turns({"nnU-Net": theirs, "segpipe": ours}, bench.repeat)
    work = f"predict {'×'.join(map(str, window))}, {_network(plan)}"
    return _compared({"work": work}, taken, 1)


def _untrained(runs: Path, features: Sequence[int], window: Sequence[int]) -> str:
    """A bundle after one step; to be called in a process of its own."""
    own = [
        *(*_PLAIN, f"output={runs}", f"model.features={list(features)}", "anatomy.regions=[]"),
        *(f"train.patch={list(window)}", "train.batch=1", "train.steps=1", "predict.overlap=0.5"),
    ]
    watch = train_to_bundle(load(COMPARISONS["ms_lesions"].config, own), 0, Watch())
    return str(watch.bundle)


def _network(plan: dict[str, Any]) -> str:
    return "-".join(map(str, plan["features"]))


def _compared(
    head: dict[str, Any], taken: dict[str, list[Cost]], cases: int
) -> list[dict[str, Any]]:
    """A row per side: seconds a case, memory, and how many times ours is as fast and as small."""
    seconds = {n: Spread(tuple(c.seconds / cases for c in costs)) for n, costs in taken.items()}
    memory = {n: Spread(tuple(c.peak_mb for c in costs)) for n, costs in taken.items()}
    return [
        {
            **head,
            "side": side,
            "s/case": seconds[side],
            "segpipe: times": seconds[side].over(seconds["segpipe"]),
            "MB": memory[side],
            "segpipe: of it": memory["segpipe"].over(memory[side]),
        }
        for side in taken
    ]
