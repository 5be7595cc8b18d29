"""Where segpipe and its judges differ: counts must be equal, real numbers to a stated share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DOUBLE, SINGLE = 1e-6, 1e-5
"""Shares by which real numbers may differ; the second where a package works in float32."""

SURFACES = ("hd95_mm", "assd_mm", "surface_dice")
VOXELS = ("dice", "iou", "sensitivity", "precision")
FOUND = ("detected_lesions", "missed_lesions", "false_positive_regions")
COUNTS = ("reference_lesions", "predicted_regions", *FOUND, "true_positive_regions")
RATIOS = ("lesion_sensitivity", "lesion_precision", "lesion_f1")
VOLUMES = ("missed_volume_ml", "false_positive_volume_ml")
LESIONWISE = ("lesionwise_dice", "lesionwise_hd95_mm")
QUALITIES = ("segmentation_quality", "recognition_quality", "panoptic_quality")

BORDERS = (
    "another surface: MONAI takes the centres of border voxels and counts each of them once; "
    "segpipe and surface-distance take elements between the voxels and weight them by area"
)
STOPS = (
    "the challenge's program stops looking at regions after as many as there are lesions, and one "
    "more; its article has no such limit, nor has segpipe"
)


@dataclass(frozen=True)
class Comparison:
    """Figures of one judge beside those of another.

    Parameters
    ----------
    what : str
        Heading of the row.
    judge, other : str
        Keys of the figures; ``other`` is one of segpipe's rules, or a second judge.
    names : sequence of str
        Figures to compare, by the judge's names; ``theirs=ours`` where they differ.
    relative : float
        Share by which real numbers may differ.
    why : str
        Explains every difference; without it none may remain.
    judges_only : bool
        Whether ``other`` is a judge too.
    """

    what: str
    judge: str
    other: str
    names: Sequence[str]
    relative: float = DOUBLE
    why: str = ""
    judges_only: bool = False


COMPARISONS = (
    Comparison(
        "components",
        "scipy",
        "components",
        [f"{side}_{n}" for side in ("reference", "prediction") for n in (6, 18, 26)],
    ),
    Comparison("voxel overlap", "numpy", "any", VOXELS),
    Comparison("voxel overlap", "monai", "any", VOXELS[:2], SINGLE),
    Comparison("surface figures", "surface-distance", "any", SURFACES),
    Comparison("surface Dice", "monai", "any", ["surface_dice_subvoxels=surface_dice"], SINGLE),
    *(Comparison(name, "monai", "any", [name], SINGLE, BORDERS) for name in SURFACES),
    Comparison("border voxels", "monai", "border voxels", SURFACES, SINGLE, judges_only=True),
    Comparison("counts, ratios", "any", "any", [*COUNTS, *RATIOS]),
    Comparison("counts, volumes", "autopet", "autopet", [*FOUND[1:], *VOLUMES]),
    Comparison("counts, qualities", "panoptic", "panoptic", [*FOUND, *QUALITIES]),
    Comparison("counts", "panoptic", "iou:0.5", FOUND),
    Comparison("counts, qualities", "panoptica", "panoptic", [*FOUND, *QUALITIES]),
    Comparison("counts", "panoptica", "iou:0.5", FOUND),
    Comparison("counts, qualities", "panoptica, bipartite", "panoptic", [*FOUND, *QUALITIES]),
    Comparison("counts", "iou:0.3", "iou:0.3", COUNTS[2:]),
    Comparison("counts", "overlap:0.1", "overlap:0.1", COUNTS[2:]),
    Comparison("lesion-wise figures", "brats23", "brats23", [COUNTS[0], *FOUND, *LESIONWISE]),
    Comparison("counts, ratios", "msseg", "msseg", [*COUNTS, *RATIOS]),
    Comparison(
        "counts, ratios", "msseg, stopping early", "msseg", [*COUNTS, *RATIOS], DOUBLE, STOPS
    ),
)


def compare(
    comparison: Comparison,
    judges: Mapping[str, Mapping[str, Mapping[str, Any]]],
    ours: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, Any]:
    """One row of the report: how many pairs differ, by how much, and an example.

    ``judges`` and ``ours`` hold figures by pair, then by judge or rule. Pairs of which the judge
    says nothing are left out.
    """
    table = judges if comparison.judges_only else ours
    sides = {
        name: (found[comparison.judge], table[name][comparison.other])
        for name, found in judges.items()
        if comparison.judge in found
    }
    different, gaps, example = 0, [], None
    for pair, (theirs, own) in sides.items():
        wrong = []
        for name in comparison.names:
            first, _, second = name.partition("=")
            expected, received = theirs[first], own[second or first]
            if isinstance(expected, float) and isinstance(received, float):
                gaps.append(abs(expected - received))
            if not alike(expected, received, comparison.relative):
                wrong.append(f"{pair}: {first} {expected}, here {received}")
        different += bool(wrong)
        example = example or (wrong[0] if wrong else None)
    return {
        "what": comparison.what,
        "judge": comparison.judge,
        "beside": comparison.other,
        "figures": list(comparison.names),
        "pairs": len(sides),
        "different": different,
        "largest gap": max(gaps) if gaps else None,
        "median gap": float(np.median(gaps)) if gaps else None,
        "95 % of gaps within": float(np.quantile(gaps, 0.95)) if gaps else None,
        "example": example,
        "why": comparison.why if different else None,
        "accepted": different == 0 or bool(comparison.why),
    }


def alike(expected: Any, received: Any, relative: float) -> bool:
    """Whether two figures are the same: equal, or real numbers within a share of the larger."""
    if isinstance(expected, float) and isinstance(received, int | float):
        larger = max(abs(expected), abs(received))
        return abs(expected - received) <= relative * larger + 1e-12
    return expected == received
