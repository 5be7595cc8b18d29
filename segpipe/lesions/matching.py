"""Which predicted component found which lesion, and which found nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from segpipe.config.rules import Rule
from segpipe.lesions.assignment import best_assignment, greedy_assignment
from segpipe.lesions.components import component_voxels
from segpipe.lesions.covering import covered

RATIO_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Voxels that reference and predicted components share: one entry per overlapping pair.

    Parameters
    ----------
    reference, prediction : (E,) int64 ndarray
        Component numbers, from 1; sorted by reference, then prediction.
    voxels : (E,) int64 ndarray
    """

    reference: np.ndarray
    prediction: np.ndarray
    voxels: np.ndarray

    def where(self, chosen: np.ndarray) -> Overlaps:
        """The pairs at which a (E,) bool array is true."""
        return Overlaps(self.reference[chosen], self.prediction[chosen], self.voxels[chosen])

    def both_ways(self, side: Literal[0, 1]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One side's components (0: reference), the other's, and what they share."""
        pair = self.reference, self.prediction
        return pair[side], pair[1 - side], self.voxels


def find_overlaps(reference_labels: np.ndarray, prediction_labels: np.ndarray) -> Overlaps:
    """Count the common voxels of every overlapping pair of components.

    Parameters
    ----------
    reference_labels, prediction_labels : (X, Y, Z) int ndarray
        Components; 0 is background.

    Returns
    -------
    Overlaps
    """
    both = (reference_labels > 0) & (prediction_labels > 0)
    reference = reference_labels[both].astype(np.int64)
    prediction = prediction_labels[both].astype(np.int64)
    base = int(prediction.max(initial=0)) + 1
    keys, voxels = np.unique(reference * base + prediction, return_counts=True)
    return Overlaps(keys // base, keys % base, voxels.astype(np.int64))


@dataclass(frozen=True, eq=False)
class Matching:
    """Outcome of a matching; every field holds component numbers, ascending.

    Parameters
    ----------
    links : (L, 2) int64 ndarray
        Reference and predicted component of every match.
    detected, missed : (N,) int64 ndarray
        Counted reference lesions. Lesions that are not counted are in neither.
    true_positives, false_positives, ignored_predictions : (M,) int64 ndarray
        Kept predicted components. Ignored are those that found only lesions that are not counted.
    """

    links: np.ndarray
    detected: np.ndarray
    missed: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    ignored_predictions: np.ndarray


def match(reference_labels: np.ndarray, prediction_labels: np.ndarray, rule: Rule) -> Matching:
    """Match the components of two label maps; all of them count.

    Parameters
    ----------
    reference_labels, prediction_labels : (X, Y, Z) int ndarray
        Components 1..N and 1..M.
    rule : Rule
    """
    reference_voxels = component_voxels(reference_labels, int(reference_labels.max(initial=0)))
    prediction_voxels = component_voxels(prediction_labels, int(prediction_labels.max(initial=0)))
    return match_overlaps(
        find_overlaps(reference_labels, prediction_labels),
        reference_voxels,
        prediction_voxels,
        rule,
        reference_counted=reference_voxels > 0,
        prediction_kept=prediction_voxels > 0,
    )


def match_overlaps(
    overlaps: Overlaps,
    reference_voxels: np.ndarray,
    prediction_voxels: np.ndarray,
    rule: Rule,
    *,
    reference_counted: np.ndarray,
    prediction_kept: np.ndarray,
) -> Matching:
    """Match components by what they share.

    Parameters
    ----------
    overlaps : Overlaps
        Under ``touch``, every pair that counts as touching, those without a common voxel included.
    reference_voxels, prediction_voxels : (N,) and (M,) int ndarray
        Size of every component.
    rule : Rule
    reference_counted : (N,) bool ndarray
        Lesions that are required. The others count for nobody: they are not missed, and a
        predicted component that finds one of them, and no counted one, is ignored (a false
        positive where ``rule.small_ignored`` is off).
    prediction_kept : (M,) bool ndarray
        Predicted components that exist; the others were removed by their size.

    Returns
    -------
    Matching
    """
    overlaps = overlaps.where(prediction_kept[overlaps.prediction - 1])
    if rule.kind == "cover":
        links = overlaps.where(reference_counted[overlaps.reference - 1])
        found = covered(*links.both_ways(0), reference_voxels, prediction_voxels)
        right = covered(*links.both_ways(1), prediction_voxels, reference_voxels)
        detected, true_positives = np.flatnonzero(found) + 1, np.flatnonzero(right) + 1
        links = links.where(np.isin(links.reference, detected))
        small = np.zeros(0, np.int64)
    else:
        overlaps = overlaps.where(_satisfies(rule, overlaps, reference_voxels, prediction_voxels))
        counted = reference_counted[overlaps.reference - 1]
        links = overlaps.where(counted)
        links = links.where(_chosen(rule, links, reference_voxels, prediction_voxels))
        detected, true_positives = np.unique(links.reference), np.unique(links.prediction)
        small = overlaps.prediction[~counted]
    ignored = np.setdiff1d(small if rule.small_ignored else small[:0], true_positives)
    kept = np.flatnonzero(prediction_kept) + 1
    return Matching(
        links=np.stack([links.reference, links.prediction], axis=1),
        detected=detected,
        missed=np.setdiff1d(np.flatnonzero(reference_counted) + 1, detected),
        true_positives=true_positives,
        false_positives=np.setdiff1d(kept, np.union1d(true_positives, ignored)),
        ignored_predictions=ignored,
    )


def intersection_over_union(
    overlaps: Overlaps, reference_voxels: np.ndarray, prediction_voxels: np.ndarray
) -> np.ndarray:
    """(E,) float: shared voxels of each pair over those of its union."""
    sizes = reference_voxels[overlaps.reference - 1] + prediction_voxels[overlaps.prediction - 1]
    return overlaps.voxels / (sizes - overlaps.voxels)


def _satisfies(rule, overlaps, reference_voxels, prediction_voxels) -> np.ndarray:
    if rule.kind == "touch":
        return np.ones(len(overlaps.voxels), bool)
    if rule.kind == "any":
        return overlaps.voxels > 0
    if rule.kind == "overlap":
        predicted = prediction_voxels[overlaps.prediction - 1]
        return overlaps.voxels >= (rule.minimum - RATIO_TOLERANCE) * predicted
    ratio = intersection_over_union(overlaps, reference_voxels, prediction_voxels)
    return ratio >= rule.minimum - RATIO_TOLERANCE


def _chosen(rule, links, reference_voxels, prediction_voxels) -> np.ndarray:
    """Which of the pairs that satisfy a rule become matches."""
    if rule.kind in ("iou", "overlap"):
        return best_assignment(links.reference, links.prediction, links.voxels)
    if rule.kind == "greedy":
        ratio = intersection_over_union(links, reference_voxels, prediction_voxels)
        return greedy_assignment(links.reference, links.prediction, ratio)
    return np.ones(len(links.voxels), bool)
