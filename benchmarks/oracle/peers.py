"""What other packages say of the same masks; runs in their own environment, without segpipe.

    .venv-oracle/bin/python -m benchmarks.oracle.peers FOLDER OUT.json

FOLDER holds a NAME.npz per pair: ``reference`` and ``prediction`` (bool), ``spacing_mm``,
``tolerance_mm``, ``iterations`` and ``limit_mm3`` (of brats23).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.oracle import rules

PACKAGES = (
    "panoptica",
    "monai",
    "torch",
    "Surface-Distance-Based-Measures",
    "scipy",
    "connected-components-3d",
    "numpy",
)

Masks = tuple[np.ndarray, np.ndarray]


def judge(reference: np.ndarray, prediction: np.ndarray, settings: Mapping) -> dict[str, dict]:
    """Every package's figures for one pair of masks."""
    spacing_mm = settings["spacing_mm"].tolist()
    tolerance_mm = float(settings["tolerance_mm"])
    voxel_mm3 = float(np.prod(spacing_mm))
    masks = reference, prediction
    figures: dict[str, dict] = {
        "scipy": {
            f"{side}_{connectivity}": partition(mask, connectivity)
            for side, mask in zip(("reference", "prediction"), masks, strict=True)
            for connectivity in (6, 18, 26)
        },
        "numpy": rules.voxelwise(*masks),
        "any": rules.at_least_a_voxel(*masks),
        "autopet": rules.autopet(*masks, voxel_mm3 / 1000),
        "panoptic": rules.panoptic(*masks),
        "iou:0.3": rules.most_pairs(*masks, "iou", 0.3),
        "overlap:0.1": rules.most_pairs(*masks, "overlap", 0.1),
        "msseg": rules.msseg(*masks, voxel_mm3),
        "msseg, stopping early": rules.msseg(*masks, voxel_mm3, stops_early=True),
        "brats23": rules.brats23(
            *masks,
            voxel_mm3,
            lambda lesion, pooled: surface_distance_hd95((lesion, pooled), spacing_mm),
            int(settings["iterations"]),
            float(settings["limit_mm3"]),
        ),
        "panoptica": panoptica(masks, "naive"),
        "panoptica, bipartite": panoptica(masks, "bipartite"),
    }
    if reference.any() and prediction.any():
        masks, spacing_mm = flattened(masks, spacing_mm)
        figures["monai"] = monai(masks, spacing_mm, tolerance_mm)
        figures["surface-distance"] = surface_distance(masks, spacing_mm, tolerance_mm)
        figures["border voxels"] = rules.border_distances(*masks, spacing_mm, tolerance_mm)
    return figures


def partition(mask: np.ndarray, connectivity: int) -> str:
    """Number of components, and a hash of the partition, numbered by first voxels in C order."""
    labels, count = rules.label(mask, connectivity)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(first[1:]) if 0 in labels else np.argsort(first)
    ranks = np.zeros(len(first), np.int32)
    ranks[order + (0 in labels)] = np.arange(1, len(order) + 1)
    return fingerprint(ranks[inverse].reshape(mask.shape), count)


def fingerprint(labels: np.ndarray, count: int) -> str:
    """``COUNT:HASH`` of a numbered partition."""
    digest = hashlib.sha256(np.ascontiguousarray(labels, np.int32).tobytes()).hexdigest()
    return f"{count}:{digest[:16]}"


def surface_distance(masks: Masks, spacing_mm: list[float], tolerance_mm: float) -> dict:
    """Figures of DeepMind's package; ASSD from its elements, as it has no such function."""
    import surface_distance as package

    found = _elements(masks, spacing_mm)
    areas = found["surfel_areas_gt"], found["surfel_areas_pred"]
    moment = found["distances_gt_to_pred"] @ areas[0] + found["distances_pred_to_gt"] @ areas[1]
    return {
        "hd95_mm": float(package.compute_robust_hausdorff(found, 95)),
        "assd_mm": float(moment / (areas[0].sum() + areas[1].sum())),
        "surface_dice": float(package.compute_surface_dice_at_tolerance(found, tolerance_mm)),
    }


def surface_distance_hd95(masks: Masks, spacing_mm: list[float]) -> float:
    """HD95 of DeepMind's package."""
    import surface_distance as package

    found = _elements(*flattened(masks, spacing_mm))
    return float(package.compute_robust_hausdorff(found, 95))


def _elements(masks: Masks, spacing_mm: list[float]) -> dict:
    import surface_distance as package

    return package.compute_surface_distances(*masks, spacing_mm)


def flattened(masks: Masks, spacing_mm: list[float]) -> tuple[Masks, list[float]]:
    """A single slice with two axes: the packages know flat images by the number of axes."""
    if 1 not in masks[0].shape:
        return masks, spacing_mm
    flat = masks[0].shape.index(1)
    first, second = (mask.squeeze(flat) for mask in masks)
    return (first, second), spacing_mm[:flat] + spacing_mm[flat + 1 :]


def monai(masks: Masks, spacing_mm: list[float], tolerance_mm: float) -> dict:
    """MONAI's figures of one foreground class."""
    import torch
    from monai import metrics

    truth, predicted = (torch.from_numpy(mask[None, None]).float() for mask in masks)
    both = {"y_pred": predicted, "y": truth, "include_background": True}
    limits = {**both, "spacing": spacing_mm, "class_thresholds": [tolerance_mm]}
    return {
        "dice": float(metrics.compute_dice(**both)),
        "iou": float(metrics.compute_iou(**both)),
        "hd95_mm": float(
            metrics.compute_hausdorff_distance(**both, percentile=95, spacing=spacing_mm)
        ),
        "assd_mm": float(
            metrics.compute_average_surface_distance(**both, symmetric=True, spacing=spacing_mm)
        ),
        "surface_dice": float(metrics.compute_surface_dice(**limits)),
        "surface_dice_subvoxels": float(metrics.compute_surface_dice(**limits, use_subvoxels=True)),
    }


def panoptica(masks: Masks, matcher: str) -> dict:
    """panoptica's detection figures of two masks at IoU 0.5."""
    found = panoptica_result(masks, panoptica_evaluator(matcher))
    quality = {"segmentation": found.sq, "recognition": found.rq, "panoptic": found.pq}
    if found.tp == 0:  # the mean over no pair: panoptica writes 0
        quality["segmentation"] = math.nan
    return {
        "detected_lesions": int(found.tp),
        "missed_lesions": int(found.fn),
        "false_positive_regions": int(found.fp),
        **{f"{n}_quality": None if math.isnan(q) else float(q) for n, q in quality.items()},
    }


def panoptica_evaluator(matcher: str = "naive", metrics: Sequence | None = None):
    """Connected components, pairs at IoU 0.5; IoU alone of every pair unless ``metrics`` says."""
    import panoptica as package

    kinds = {"naive": package.NaiveThresholdMatching, "bipartite": package.MaxBipartiteMatching}
    return package.Panoptica_Evaluator(
        expected_input=package.InputType.SEMANTIC,
        instance_approximator=package.ConnectedComponentsInstanceApproximator(),
        instance_matcher=kinds[matcher](matching_metric=package.Metric.IOU, matching_threshold=0.5),
        instance_metrics=list(metrics or [package.Metric.IOU]),
        global_metrics=[],
    )


def panoptica_result(masks: Masks, evaluator):
    """The result of panoptica for its only group of labels, everything in it computed."""
    reference, prediction = (mask.astype(np.uint8, copy=False) for mask in masks)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        found = evaluator.evaluate(prediction, reference)["ungrouped"]
        found.to_dict()
    return found


def main(folder: str, target: str) -> None:
    judged = {}
    for path in sorted(Path(folder).glob("*.npz")):
        with np.load(path) as pair:
            judged[path.stem] = judge(pair["reference"], pair["prediction"], pair)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    Path(target).write_text(json.dumps({"versions": versions, "pairs": judged}, allow_nan=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
