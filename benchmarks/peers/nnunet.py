"""nnU-Net's part, run by its own Python: a plan, untrained weights, steps, patches.

    .venv-peers/bin/python -m benchmarks.peers.nnunet COMMAND …

What has a command of nnU-Net's own is measured with that command.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from benchmarks.accuracy.budget import Budget
from benchmarks.accuracy.nnunet import PLANS, SMALL, make_trainer, plan, preprocessed, versions
from benchmarks.accuracy.trainer import CANDIDATES, BudgetTrainer
from benchmarks.peers.settings import FIRST_STEPS, ROTATION_DEGREES


class TimedTrainer(BudgetTrainer):
    """nnU-Net's training, with the time at which every step ended."""

    def train_step(self, batch: dict) -> dict:
        """One step; ``ends`` says when it was over."""
        found = super().train_step(batch)
        self.__dict__.setdefault("ends", []).append(time.perf_counter())
        return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.nnunet")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dataset", type=int, required=True, metavar="NUMBER")
    commands = parser.add_subparsers(dest="command", required=True)
    planning = commands.add_parser("plan", help="the hand-made plan, and its cases")
    planning.add_argument("--patch", type=int, nargs=3, required=True, help="Z Y X")
    planning.add_argument("--batch", type=int, required=True)
    commands.add_parser("untrained", help="weights as they are before training")
    train = commands.add_parser("train", help="seconds of every step")
    train.add_argument("--iterations", type=int, required=True)
    train.add_argument("--arithmetic", choices=[str(one) for one in CANDIDATES], required=True)
    augment = commands.add_parser("augment", help="seconds of a patch")
    augment.add_argument("--patch", type=int, nargs=3, required=True)
    augment.add_argument("--channels", type=int, required=True)
    augment.add_argument("--patches", type=int, required=True)
    for command in commands.choices.values():
        command.add_argument("--report", type=Path, required=True, metavar="JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = {"plan": run_plan, "untrained": run_untrained, "train": run_train, "augment": run_augment}
    found = run[options.command](options)
    options.report.write_text(json.dumps(found | {"versions": versions()}, indent=1))


def run_plan(options: argparse.Namespace) -> dict[str, Any]:
    """Fingerprint, plan, preprocessed cases; returns the network that the plan has."""
    plan(options.dataset, options.threads, options.patch, [1.0, 1.0, 1.0], options.batch)
    preprocess([options.dataset], PLANS, [SMALL], num_processes=[options.threads])
    trainer = make_trainer(options.dataset, SMALL)
    trainer.initialize()
    network = trainer.configuration_manager.network_arch_init_kwargs
    weights = sum(p.numel() for p in trainer.network.parameters())
    return {
        "features": list(network["features_per_stage"]),
        "strides": [list(stride) for stride in network["strides"]],
        "parameters": weights,
    }


def run_untrained(options: argparse.Namespace) -> dict[str, Any]:
    """A model folder with random weights, as nnU-Net's command for predicting takes it."""
    trainer = make_trainer(options.dataset, SMALL, kind=nnUNetTrainer)
    trainer.initialize()
    folder = Path(trainer.output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f"{PLANS}.json", "dataset.json"):
        target = folder.parent / name.replace(PLANS, "plans")
        shutil.copy(preprocessed(options.dataset) / name, target)
    trainer.save_checkpoint(str(folder / "checkpoint_final.pth"))
    return {"model": str(folder.parent)}


def run_train(options: argparse.Namespace) -> dict[str, Any]:
    """Steps with loading and augmentation, as it trains."""
    trainer = make_trainer(options.dataset, SMALL, kind=TimedTrainer)
    trainer.arithmetic = next(one for one in CANDIDATES if str(one) == options.arithmetic)
    trainer.budget = Budget(iterations=options.iterations)
    trainer.run_training()
    return {
        "seconds": np.diff(trainer.ends).tolist()[FIRST_STEPS - 1 :],
        "batch": trainer.batch_size,
    }


def run_augment(options: argparse.Namespace) -> dict[str, Any]:
    """Its default transforms of a 3-D patch, from a block of the size that it reads for one."""
    torch.set_num_threads(1)
    turn = np.deg2rad(ROTATION_DEGREES)
    patch = np.array(options.patch)
    transforms = nnUNetTrainer.get_training_transforms(patch, (-turn, turn), None, (0, 1, 2), False)
    block = _block(patch, turn)
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.random((options.channels, *block), np.float32))
    labels = torch.from_numpy((rng.random((1, *block)) < 0.01).astype(np.int16))
    times = []
    for _ in range(FIRST_STEPS + options.patches):
        started = time.perf_counter()
        transforms(image=image.clone(), segmentation=labels.clone())
        times.append(time.perf_counter() - started)
    return {"seconds": times[FIRST_STEPS:], "block": list(map(int, block))}


def _block(patch: np.ndarray, turn: float) -> np.ndarray:
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size

    return get_patch_size(patch, *[(-turn, turn)] * 3, (0.85, 1.25))


if __name__ == "__main__":
    main()
