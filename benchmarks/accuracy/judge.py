"""One judge for both sides: what ``segpipe score`` says, and counts at every threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.config import Config, OperatingPoint
from segpipe.data.layouts import Dataset
from segpipe.data.nifti import align, read_labels, read_probability
from segpipe.evaluate.score import tabulate
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import THRESHOLDS, component_table
from segpipe.evaluate.tallies import count_table
from segpipe.pipeline.score import run_score

FIGURES = (
    *("case", "label", "dice", "surface_dice", "hd95_mm"),
    *("lesion_f1", "lesion_sensitivity", "reference_lesions", "detected_lesions"),
    *("predicted_regions", "false_positive_regions", "false_positive_volume_ml"),
)
"""What is kept of a row of ``segpipe score``."""

SWEPT = (0.01, 0.02, *THRESHOLDS, 0.98, 0.99)
SIZES_MM3 = (0.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def settings_of(config: Config) -> ScoreSettings:
    """The configuration's rule, and masks as they are."""
    return ScoreSettings.from_config(config.evaluate, OperatingPoint())


def score(references: Path, masks: Path, config: Config) -> list[dict[str, Any]]:
    """Rows of ``segpipe score``, a case and label each.

    Raises
    ------
    RuntimeError
        If a case could not be scored: it would be missing from the means of one side.
    """
    rows = run_score(references, masks, settings_of(config))["rows"]
    failed = [f"{row['case']}: {row['error']}" for row in rows if row["status"] != "scored"]
    if failed:
        raise RuntimeError(f"{masks}: expected every case scored; " + "; ".join(failed))
    return [{name: row[name] for name in FIGURES} for row in rows]


def sweep(
    references: Path, probabilities: Path, dataset: Dataset, config: Config
) -> dict[str, Any]:
    """Counts of every case at every threshold and minimum size, for the only label.

    Returns
    -------
    dict
        ``thresholds``, ``min_sizes_mm3``, and ``cases``: case to ``detected``, ``lesions`` and
        ``false_positives``, lists of (thresholds, sizes).
    """
    settings, views = settings_of(config), []
    files = sorted(references.glob("*.nii.gz"))
    for file in files:
        reference = read_labels(file)
        probability = align(read_probability(probabilities / file.name)[0], reference)
        case = file.name.removesuffix(".nii.gz")
        labels = dataset.labels
        views += tabulate(case, reference, probability, labels, settings, SWEPT)
    cases = [file.name.removesuffix(".nii.gz") for file in files]
    counted = count_table(component_table(views), settings.limits(), cases, SIZES_MM3)
    return {
        "thresholds": counted.thresholds.tolist(),
        "min_sizes_mm3": list(SIZES_MM3),
        "cases": {
            case: {
                "detected": counted.detected[row, 0].tolist(),
                "lesions": counted.lesions[row, 0].tolist(),
                "false_positives": counted.false_positives[row, 0].tolist(),
            }
            for row, case in enumerate(cases)
        },
    }


def pooled(
    sweeps: Sequence[Mapping[str, Any]], weights: Sequence[float] | np.ndarray | None = None
) -> list[dict[str, Any]]:
    """The curve over the cases of several folds: a point for each threshold and minimum size.

    Parameters
    ----------
    sweeps : sequence of mapping
    weights : sequence of float or None
        How often each of them counts; once.

    Returns
    -------
    list of dict
        ``threshold``, ``min_size_mm3``, ``sensitivity`` (detected over all lesions; None without
        any) and ``false_positive_regions`` (per case).
    """
    often = [1.0] * len(sweeps) if weights is None else weights
    cases = [(n, c) for n, one in zip(often, sweeps, strict=True) for c in one["cases"].values()]

    def total(name: str) -> np.ndarray:
        return np.sum([n * np.asarray(counts[name]) for n, counts in cases], axis=0)

    detected, lesions, wrong = map(total, ("detected", "lesions", "false_positives"))
    scans = sum(n for n, _ in cases)
    return [
        {
            "threshold": threshold,
            "min_size_mm3": size,
            "sensitivity": float(detected[t, s] / lesions[t, s]) if lesions[t, s] else None,
            "false_positive_regions": float(wrong[t, s] / scans),
        }
        for t, threshold in enumerate(sweeps[0]["thresholds"])
        for s, size in enumerate(sweeps[0]["min_sizes_mm3"])
    ]
