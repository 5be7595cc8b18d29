"""nnU-Net's part, run by its own Python: prepare, calibrate, train, predict.

    .venv-peers/bin/python -m benchmarks.accuracy.nnunet COMMAND …

`nnUNet_raw`, `nnUNet_preprocessed` and `nnUNet_results` say where its folders are.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import torch
from nnunetv2.experiment_planning.experiment_planners.network_topology import (
    get_pool_and_conv_props,
)
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiments,
    preprocess,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import convert_id_to_dataset_name

from benchmarks.accuracy.budget import Budget
from benchmarks.accuracy.meter import Meter
from benchmarks.accuracy.trainer import Arithmetic, BudgetTrainer

PLANS = "nnUNetPlans"
FULL, SMALL = "3d_fullres", "3d_small"
_CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.nnunet")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dataset", type=int, required=True, metavar="NUMBER")
    parser.add_argument("--configuration", choices=(FULL, SMALL), default=FULL)
    parser.add_argument("--fold", type=int, default=0)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="fingerprint, plan, preprocess")
    prepare.add_argument("--patch", type=int, nargs=3, help="of the hand-made plan, Z Y X")
    prepare.add_argument("--spacing", type=float, nargs=3)
    prepare.add_argument("--batch", type=int)
    calibrate = commands.add_parser("calibrate", help="seconds per step by arithmetic")
    train = commands.add_parser("train", help="a fold, by a budget")
    train.add_argument("--seconds", type=float)
    train.add_argument("--iterations", type=int)
    train.add_argument("--arithmetic", type=Path, required=True, help="what calibrate wrote")
    predict = commands.add_parser("predict", help="masks, and probabilities on request")
    predict.add_argument("--cases", nargs="+", required=True)
    predict.add_argument("--masks", type=Path, required=True, metavar="DIR")
    predict.add_argument("--mirroring", action="store_true")
    predict.add_argument("--probabilities", action="store_true")
    for command in (calibrate, train, predict):
        command.add_argument("--report", type=Path, required=True, metavar="JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = {
        "prepare": run_prepare,
        "calibrate": run_calibrate,
        "train": run_train,
        "predict": run_predict,
    }[options.command]
    found = run(options)
    if found is not None:
        options.report.write_text(json.dumps(found | {"versions": versions()}, indent=1))


def run_prepare(options: argparse.Namespace) -> None:
    """Fingerprint, its own plan, the hand-made one beside it, preprocessed cases of both."""
    plan(options.dataset, options.threads, options.patch, options.spacing, options.batch)
    configurations = [FULL, SMALL] if options.patch else [FULL]
    preprocess([options.dataset], PLANS, configurations, num_processes=[options.threads])


def plan(
    number: int,
    threads: int,
    patch: list[int] | None,
    spacing_mm: list[float] | None,
    batch: int | None,
) -> None:
    """Fingerprint and its own plan; with a patch, spacing and batch the hand-made one beside it."""
    extract_fingerprints([number], num_processes=threads)
    plan_experiments([number])
    if not (patch and spacing_mm and batch):
        return
    path = preprocessed(number) / f"{PLANS}.json"
    plans = json.loads(path.read_text())
    small = small_configuration(plans["configurations"][FULL], patch, spacing_mm, batch)
    plans["configurations"][SMALL] = small
    path.write_text(json.dumps(plans, indent=4))


def small_configuration(
    full: dict[str, Any], patch: list[int], spacing_mm: list[float], batch: int
) -> dict[str, Any]:
    """nnU-Net's configuration for another patch: its topology rule gives strides and kernels."""
    _, strides, kernels, fitted, _ = get_pool_and_conv_props(spacing_mm, patch, 4, 999999)
    if list(fitted) != list(patch):
        raise ValueError(f"patch: expected one that halves evenly, such as {fitted}; got {patch}")
    stages = len(strides)
    network = {
        **full["architecture"]["arch_kwargs"],
        "n_stages": stages,
        "features_per_stage": [min(320, 32 * 2**stage) for stage in range(stages)],
        "kernel_sizes": [list(kernel) for kernel in kernels],
        "strides": [list(stride) for stride in strides],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    own = {
        "data_identifier": f"{PLANS}_{SMALL}",
        "batch_size": batch,
        "patch_size": list(patch),
        "spacing": list(spacing_mm),
        "architecture": {**full["architecture"], "arch_kwargs": network},
    }
    changed = [a / b for a, b in zip(full["spacing"], spacing_mm, strict=True)]
    size = [round(n * c) for n, c in zip(full["median_image_size_in_voxels"], changed, strict=True)]
    return {**full, **own, "median_image_size_in_voxels": size}


def run_calibrate(options: argparse.Namespace) -> dict[str, Any]:
    """The fastest arithmetic on this processor."""
    return _trainer(options).calibrate()


def run_train(options: argparse.Namespace) -> dict[str, Any]:
    """Train a fold; the final checkpoint lies in nnU-Net's results."""
    trainer = _trainer(options)
    chosen = json.loads(options.arithmetic.read_text())
    trainer.arithmetic = Arithmetic(**chosen["fastest"])
    trainer.budget = Budget(options.seconds, options.iterations)
    trainer.run_training()
    return {**trainer.report, "calibration": chosen["seconds"]}


def run_predict(options: argparse.Namespace) -> dict[str, Any]:
    """Predict raw cases as ``nnUNetv2_predict`` does, in float32."""
    trainer = _trainer(options)
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(
        use_mirroring=options.mirroring, device=_CPU, perform_everything_on_device=False
    )
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        (0, 1, 2),
    )
    images = Path(os.environ["nnUNet_raw"]) / _name(options.dataset) / "imagesTr"  # noqa: SIM112
    files = [sorted(map(str, images.glob(f"{case}_????.nii.gz"))) for case in options.cases]
    options.masks.mkdir(parents=True, exist_ok=True)
    meter = Meter()
    predictor.predict_from_files(
        files,
        [str(options.masks / case) for case in options.cases],
        save_probabilities=options.probabilities,
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )
    return meter.read()


def make_trainer(
    number: int, configuration: str, fold: int = 0, kind: type[nnUNetTrainer] = BudgetTrainer
) -> Any:
    """A trainer of a planned dataset, its network not made yet."""
    folder = preprocessed(number)
    plans = json.loads((folder / f"{PLANS}.json").read_text())
    dataset = json.loads((folder / "dataset.json").read_text())
    plans["continue_training"] = False
    return kind(plans, configuration, fold, dataset, device=_CPU)


def _trainer(options: argparse.Namespace) -> BudgetTrainer:
    return make_trainer(options.dataset, options.configuration, options.fold)


def preprocessed(number: int) -> Path:
    """Where its plan and its cases lie."""
    return Path(os.environ["nnUNet_preprocessed"]) / _name(number)  # noqa: SIM112


def _name(number: int) -> str:
    return convert_id_to_dataset_name(number)


def versions() -> dict[str, str]:
    """What the figures depend on."""
    names = ("nnunetv2", "torch", "batchgeneratorsv2", "dynamic_network_architectures", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


if __name__ == "__main__":
    main()
