"""Lesion-wise scores, from counts; the counting itself is in :mod:`segpipe.lesions`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from segpipe.lesions.components import size_bins
from segpipe.lesions.view import Counts

SIZE_EDGES_MM3 = (0.0, 10.0, 30.0, 100.0, 300.0, 1000.0, math.inf)
"""Limits of the size bins; a lesion belongs to the bin with ``low ≤ size < high``."""


@dataclass(frozen=True)
class DetectionCounts:
    """Lesions and regions that count.

    Parameters
    ----------
    detected, missed : int
        Reference lesions.
    true_positives, false_positives : int
        Predicted regions. Under a one-to-one rule ``true_positives`` equals ``detected``; under
        ``any`` they may differ.
    """

    detected: int
    missed: int
    true_positives: int
    false_positives: int


def tally_of(counts: Counts) -> DetectionCounts:
    """The four numbers of a view that was counted."""
    found = counts.matching
    return DetectionCounts(
        len(found.detected),
        len(found.missed),
        len(found.true_positives),
        len(found.false_positives),
    )


def f1_of(counts: Counts) -> float:
    """F1 as the rule's source defines it: :func:`harmonic_f1` for MSSEG, else :func:`lesion_f1`."""
    published = harmonic_f1 if counts.limits.rule.kind == "cover" else lesion_f1
    return published(tally_of(counts))


def lesion_sensitivity(counts: DetectionCounts) -> float:
    """Detected lesions / reference lesions.

    No lesion and no region: nan. No lesion, some regions: nan. Lesions, no region: 0.
    """
    lesions = counts.detected + counts.missed
    return counts.detected / lesions if lesions else math.nan


def lesion_precision(counts: DetectionCounts) -> float:
    """True-positive regions / predicted regions that count.

    No lesion and no region: nan. No lesion, some regions: 0. Lesions, no region: nan.
    """
    regions = counts.true_positives + counts.false_positives
    return counts.true_positives / regions if regions else math.nan


def lesion_f1(counts: DetectionCounts) -> float:
    """detected / (detected + (false-positive regions + missed) / 2), as ISLES'22 has it.

    No lesion and no region: nan. No lesion, some regions: nan, since scans without lesions are
    reported apart. Lesions, no region: 0.

    References
    ----------
    Hernandez Petzsche et al., ISLES 2022, Scientific Data 9:762. doi:10.1038/s41597-022-01875-5
    """
    if counts.detected + counts.missed == 0:
        return math.nan
    return counts.detected / (counts.detected + (counts.false_positives + counts.missed) / 2)


def harmonic_f1(counts: DetectionCounts) -> float:
    """Harmonic mean of lesion sensitivity and lesion precision, as MSSEG has it.

    It differs from :func:`lesion_f1` where true-positive regions and detected lesions differ in
    number. No lesion and no region: nan. No lesion, some regions: nan. Lesions, no region: 0.

    References
    ----------
    Commowick et al., Scientific Reports 2018. doi:10.1038/s41598-018-31911-7

    Examples
    --------
    >>> round(harmonic_f1(DetectionCounts(3, 1, 5, 1)), 4)
    0.7895
    """
    found, right = lesion_sensitivity(counts), lesion_precision(counts)
    if math.isnan(found):
        return math.nan
    if math.isnan(right) or found + right == 0:
        return 0.0
    return 2 * found * right / (found + right)


def lesionwise_dice(dice: np.ndarray, false_positives: int) -> float:
    """Dice of every lesion, summed, over lesions + false-positive regions, as BraTS 2023 has it.

    No lesion and no region: nan. No lesion, some regions: 0. Lesions, no region: 0.

    Parameters
    ----------
    dice : (L,) float ndarray
        Of each lesion with all regions that reach it together; 0 where none does.
    false_positives : int

    Examples
    --------
    >>> import numpy as np
    >>> lesionwise_dice(np.array([0.75, 0.0]), 1)
    0.25
    """
    units = len(dice) + false_positives
    return float(np.sum(dice)) / units if units else math.nan


def wilson(found: int, of: int) -> tuple[float, float] | None:
    """95 % score interval of a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Examples
    --------
    >>> [round(limit, 4) for limit in wilson(8, 10)]
    [0.4902, 0.9433]
    >>> wilson(0, 0) is None
    True
    """
    if of == 0:
        return None
    z, share = 1.959963984540054, found / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def share_interval(
    part: int, whole: int, over_patients: Sequence[float] | None
) -> tuple[float, float] | None:
    """95 % interval of a pooled share, as of lesion sensitivity: the wider of two, limit by limit.

    Wilson's over lesions takes the lesions of a patient as independent; the bootstrap over
    patients has no width where all or none are found, or where few patients have lesions.

    Parameters
    ----------
    part, whole : int
        Such as detected lesions and all.
    over_patients : (low, high) or None
        Of :func:`segpipe.evaluate.bootstrap.ratio_interval`; None, as with fewer than two
        patients: Wilson's alone.

    Returns
    -------
    (low, high) or None
        None where the whole is 0.

    Examples
    --------
    >>> [round(limit, 4) for limit in share_interval(8, 10, (0.6, 0.97))]
    [0.4902, 0.97]
    >>> [round(limit, 4) for limit in share_interval(10, 10, (1.0, 1.0))]
    [0.7225, 1.0]
    """
    limits = wilson(part, whole)
    if limits is None or over_patients is None:
        return limits
    return min(limits[0], over_patients[0]), max(limits[1], over_patients[1])


def by_size(
    lesion_sizes_mm3: np.ndarray,
    detected: np.ndarray,
    false_positive_sizes_mm3: np.ndarray,
    edges_mm3: Sequence[float] = SIZE_EDGES_MM3,
) -> list[dict]:
    """Count lesions, detected lesions and false-positive regions by their size.

    Parameters
    ----------
    lesion_sizes_mm3, detected : (N,) float and bool ndarray
        The counted reference lesions, and whether each was found.
    false_positive_sizes_mm3 : (M,) float ndarray
    edges_mm3 : sequence of float
        Ascending; the last may be inf.

    Returns
    -------
    list of dict
        ``low_mm3``, ``high_mm3`` (None: no limit), ``lesions``, ``detected``, ``sensitivity``
        (None in a bin without lesions), ``false_positive_regions``, ``false_positive_volume_ml``.
    """
    bins = []
    detected = np.asarray(detected, bool)
    of_lesions = size_bins(lesion_sizes_mm3, edges_mm3)
    sizes = np.asarray(false_positive_sizes_mm3, float)
    of_wrong = size_bins(sizes, edges_mm3)
    for index, (low, high) in enumerate(pairwise(edges_mm3)):
        inside, wrong = of_lesions == index, of_wrong == index
        lesions, found = int(inside.sum()), int((inside & detected).sum())
        bins.append(
            {
                "low_mm3": float(low),
                "high_mm3": float(high) if math.isfinite(high) else None,
                "lesions": lesions,
                "detected": found,
                "sensitivity": found / lesions if lesions else None,
                "false_positive_regions": int(wrong.sum()),
                "false_positive_volume_ml": float(sizes[wrong].sum()) / 1000,
            }
        )
    return bins


def add_by_size(cases: Sequence[list[dict]]) -> list[dict]:
    """Add up the bins of several cases; all must have the same edges."""
    total = []
    for bins in zip(*cases, strict=True):
        lesions = sum(b["lesions"] for b in bins)
        found = sum(b["detected"] for b in bins)
        total.append(
            {
                "low_mm3": bins[0]["low_mm3"],
                "high_mm3": bins[0]["high_mm3"],
                "lesions": lesions,
                "detected": found,
                "sensitivity": found / lesions if lesions else None,
                "false_positive_regions": sum(b["false_positive_regions"] for b in bins),
                "false_positive_volume_ml": sum(b["false_positive_volume_ml"] for b in bins),
            }
        )
    return total
