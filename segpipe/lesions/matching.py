"""Which predicted component found which lesion, and which found nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segpipe.errors import ConfigError
from segpipe.lesions.assignment import best_assignment
from segpipe.lesions.components import component_voxels

RATIO_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Rule:
    """When a predicted component counts as having found a lesion.

    Parameters
    ----------
    kind : {'any', 'iou', 'overlap'}
        any: one common voxel, many to many. iou: intersection over union of the two; overlap:
        intersection over the predicted component; both one to one.
    minimum : float
        Smallest ratio that counts; 0 for ``any``.
    """

    kind: Literal["any", "iou", "overlap"]
    minimum: float = 0.0


def parse_rule(text: str) -> Rule:
    """Read ``any``, ``iou:X`` or ``overlap:X`` with X above 0 and at most 1.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> parse_rule("iou:0.5")
    Rule(kind='iou', minimum=0.5)
    """
    if text == "any":
        return Rule("any")
    found = re.fullmatch(r"(iou|overlap):(\d*\.?\d+)", text)
    if found and 0 < float(found[2]) <= 1:
        return Rule("iou" if found[1] == "iou" else "overlap", float(found[2]))
    raise ConfigError(
        f"rule: expected any, iou:X or overlap:X with X above 0 and at most 1; received {text!r}. "
        "Write for instance iou:0.5."
    )


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
    reference_voxels, prediction_voxels : (N,) and (M,) int ndarray
        Size of every component.
    rule : Rule
        ``iou`` and ``overlap`` match one to one: as many pairs as possible, among those the
        largest total overlap, among those the lowest labels.
    reference_counted : (N,) bool ndarray
        Lesions that are required. The others count for nobody: they are not missed, and a
        predicted component that finds one of them, and no counted one, is ignored.
    prediction_kept : (M,) bool ndarray
        Predicted components that exist; the others were removed by their size.

    Returns
    -------
    Matching
    """
    overlaps = overlaps.where(prediction_kept[overlaps.prediction - 1])
    overlaps = overlaps.where(_satisfies(rule, overlaps, reference_voxels, prediction_voxels))
    counted = reference_counted[overlaps.reference - 1]
    links = overlaps.where(counted)
    if rule.kind != "any":
        chosen = best_assignment(links.reference, links.prediction, links.voxels)
        links = links.where(chosen)
    kept = np.flatnonzero(prediction_kept) + 1
    required = np.flatnonzero(reference_counted) + 1
    true_positives = np.unique(links.prediction)
    ignored = np.setdiff1d(overlaps.prediction[~counted], true_positives)
    detected = np.unique(links.reference)
    return Matching(
        links=np.stack([links.reference, links.prediction], axis=1),
        detected=detected,
        missed=np.setdiff1d(required, detected),
        true_positives=true_positives,
        false_positives=np.setdiff1d(kept, np.union1d(true_positives, ignored)),
        ignored_predictions=ignored,
    )


def _satisfies(rule, overlaps, reference_voxels, prediction_voxels) -> np.ndarray:
    predicted = prediction_voxels[overlaps.prediction - 1]
    if rule.kind == "any":
        return overlaps.voxels > 0
    if rule.kind == "overlap":
        return overlaps.voxels >= (rule.minimum - RATIO_TOLERANCE) * predicted
    union = reference_voxels[overlaps.reference - 1] + predicted - overlaps.voxels
    return overlaps.voxels >= (rule.minimum - RATIO_TOLERANCE) * union
