"""One measurement of panoptica or MONAI for every line of standard input; without segpipe.

    .venv-oracle/bin/python -m benchmarks.oracle.worker PAIR.npz

Answers every name of WORKS with the seconds of one call, and ``memory`` with the MB that all of
them together take beyond the masks.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import numpy as np

from benchmarks.oracle.peers import Masks, panoptica_evaluator, panoptica_result
from benchmarks.score import extra_mb
from benchmarks.timing import seconds

WORKS = ("panoptica, IoU", "panoptica, ISLES", "MONAI")


def works(masks: Masks, spacing_mm: list[float], tolerance_mm: float) -> dict[str, Callable]:
    """What is measured, by name; masks are in memory in the form that each package takes."""
    import torch
    from monai import metrics
    from panoptica import Metric

    torch.set_num_threads(1)
    truth, predicted = (torch.from_numpy(mask[None, None]).float() for mask in masks)
    both = {"y_pred": predicted, "y": truth, "include_background": True}
    lean = panoptica_evaluator()
    full = panoptica_evaluator(metrics=[Metric.DSC, Metric.IOU, Metric.ASSD, Metric.RVD])

    def surfaces() -> None:
        metrics.compute_hausdorff_distance(**both, percentile=95, spacing=spacing_mm)
        metrics.compute_average_surface_distance(**both, symmetric=True, spacing=spacing_mm)
        metrics.compute_surface_dice(**both, class_thresholds=[tolerance_mm], spacing=spacing_mm)

    calls = (
        lambda: panoptica_result(masks, lean),
        lambda: panoptica_result(masks, full),
        surfaces,
    )
    return dict(zip(WORKS, calls, strict=True))


def main(path: str) -> None:
    warnings.simplefilter("ignore")
    with np.load(path) as pair:
        masks = pair["reference"], pair["prediction"]
        calls = works(masks, pair["spacing_mm"].tolist(), float(pair["tolerance_mm"]))
    for line in sys.stdin:
        name = line.strip()
        if name == "memory":
            answer = extra_mb(lambda: [calls[n]() for n in (WORKS[0], WORKS[2])])
        else:
            answer = seconds(calls[name])
        print(answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
