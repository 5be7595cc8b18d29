"""What segpipe says of a pair, under the names that the judges use."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.oracle.peers import fingerprint
from benchmarks.oracle.volumes import Pair
from segpipe.evaluate.score import ScoreSettings, score_labels
from segpipe.lesions.components import label_components
from segpipe.volume import Volume

RULES = ("any", "autopet", "panoptic", "iou:0.5", "iou:0.3", "overlap:0.1", "msseg")
BRATS = {"brats23": (3, 50.0), "brats23-met": (1, 2.0)}
"""Preset to its dilation steps and its limit in mm³."""


def partitions(pair: Pair) -> dict[str, str]:
    """Components of both masks at every connectivity."""
    return {
        f"{side}_{connectivity}": fingerprint(*label_components(mask, connectivity))
        for side, mask in (("reference", pair.reference), ("prediction", pair.prediction))
        for connectivity in (6, 18, 26)
    }


def figures(pair: Pair, rule: str, tolerance_mm: float = 1.0) -> dict[str, Any]:
    """The row and the details of ``score_labels``, in one dictionary."""
    reference, prediction = (
        Volume(mask.astype(np.uint8), pair.affine) for mask in (pair.reference, pair.prediction)
    )
    settings = ScoreSettings(rule=rule, tolerance_mm=tolerance_mm)
    score = score_labels(pair.name, reference, prediction, {"lesion": 1}, settings)[0]
    return {**score.row, **score.detail}


def score_all(pair: Pair, brats: str, tolerance_mm: float) -> dict[str, dict[str, Any]]:
    """Figures by every rule; the BraTS preset goes by the name ``brats23``."""
    named = {**{rule: rule for rule in RULES}, "brats23": brats}
    scored = {name: figures(pair, rule, tolerance_mm) for name, rule in named.items()}
    return {**scored, "components": partitions(pair)}
