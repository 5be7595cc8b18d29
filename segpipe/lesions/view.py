"""One label of one case at one threshold: its components, and everything counted from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from segpipe.lesions.components import component_probabilities, component_voxels
from segpipe.lesions.limits import Limits
from segpipe.lesions.matching import (
    Matching,
    Overlaps,
    find_overlaps,
    intersection_over_union,
    match_overlaps,
)
from segpipe.lesions.places import component_regions


@dataclass(frozen=True, eq=False)
class Side:
    """The components of one side, in label order.

    Parameters
    ----------
    voxels : (N,) int64 ndarray
    region : (N,) tuple of str
        Anatomical region that each overlaps most.
    mean_probability, max_probability : (N,) float ndarray
        nan without probabilities.
    """

    voxels: np.ndarray
    region: tuple[str, ...]
    mean_probability: np.ndarray
    max_probability: np.ndarray


@dataclass(frozen=True, eq=False)
class View:
    """One label of one case at one threshold.

    Parameters
    ----------
    case, label : str
    threshold : float
        nan: a mask, not cut from probabilities.
    voxel_volume_mm3 : float
    reference, prediction : Side
    overlaps : Overlaps
        Pairs with a common voxel; under a rule with dilation also those that merely touch, which
        share 0 voxels.
    """

    case: str
    label: str
    threshold: float
    voxel_volume_mm3: float
    reference: Side
    prediction: Side
    overlaps: Overlaps

    @cached_property
    def lesion_mm3(self) -> np.ndarray:
        """(N,) float: size of every lesion."""
        return self.reference.voxels * self.voxel_volume_mm3

    @cached_property
    def component_mm3(self) -> np.ndarray:
        """(M,) float: size of every predicted component."""
        return self.prediction.voxels * self.voxel_volume_mm3

    def present(self, limits: Limits) -> np.ndarray:
        """(M,) bool: predicted components that size filter and hysteresis leave."""
        return limits.present(self.component_mm3, self.prediction.max_probability)

    def count(self, limits: Limits) -> Counts:
        """Match the components under a rule and its limits."""
        counted = limits.counted(self.lesion_mm3)
        kept = limits.kept(self.component_mm3, self.prediction.max_probability)
        matching = match_overlaps(
            self.overlaps,
            self.reference.voxels,
            self.prediction.voxels,
            limits.rule,
            reference_counted=counted,
            prediction_kept=kept,
        )
        return Counts(self, limits, counted, kept, matching)


@dataclass(frozen=True, eq=False)
class Counts:
    """A view, counted.

    Parameters
    ----------
    view : View
    limits : Limits
    counted : (N,) bool ndarray
        Lesions that are required.
    kept : (M,) bool ndarray
        Predicted components that exist and count.
    matching : Matching
    """

    view: View
    limits: Limits
    counted: np.ndarray
    kept: np.ndarray
    matching: Matching

    @property
    def lesions_lost(self) -> int:
        """Required lesions that only removed components had touched."""
        required = self.view.overlaps.where(self.counted[self.view.overlaps.reference - 1])
        left = required.where(self.kept[required.prediction - 1])
        return len(np.setdiff1d(required.reference, left.reference))

    @property
    def most_by_one(self) -> int:
        """The most required lesions that a single component found; 0 where none was found."""
        return int(np.bincount(self.matching.links[:, 1]).max(initial=0))

    def volume_ml(self, side: Side, components: np.ndarray) -> float:
        """Volume of the components with these numbers."""
        return float(side.voxels[components - 1].sum() * self.view.voxel_volume_mm3 / 1000)

    @property
    def pooled_dice(self) -> np.ndarray:
        """(K,) float: Dice of every required lesion with all components that reach it.

        0 for a lesion that nothing reaches; whole components are pooled, in each lesion that they
        reach.
        """
        links = self.view.overlaps.where(self.kept[self.view.overlaps.prediction - 1])
        size = len(self.view.reference.voxels) + 1
        shared = np.bincount(links.reference, links.voxels, size)[1:]
        pooled = self.view.prediction.voxels[links.prediction - 1]
        predicted = np.bincount(links.reference, pooled, size)[1:]
        return (2 * shared / (self.view.reference.voxels + predicted))[self.counted]

    @property
    def matched_ious(self) -> np.ndarray:
        """(L,) float: intersection over union of every match."""
        links, overlaps = self.matching.links, self.view.overlaps
        matched = set(map(tuple, links.tolist()))
        chosen = [
            pair in matched
            for pair in zip(overlaps.reference.tolist(), overlaps.prediction.tolist(), strict=True)
        ]
        sizes = self.view.reference.voxels, self.view.prediction.voxels
        return intersection_over_union(overlaps.where(np.array(chosen, bool)), *sizes)


def make_view(
    case: str,
    label: str,
    reference_labels: np.ndarray,
    prediction_labels: np.ndarray,
    voxel_volume_mm3: float,
    *,
    reach: np.ndarray | None = None,
    threshold: float = float("nan"),
    probability: np.ndarray | None = None,
    regions: Mapping[str, np.ndarray] | None = None,
) -> View:
    """Tabulate the components of two label maps.

    Parameters
    ----------
    case, label : str
    reference_labels, prediction_labels : (X, Y, Z) int ndarray
        Components 1..N and 1..M.
    voxel_volume_mm3 : float
    reach : (X, Y, Z) int ndarray, optional
        The lesions, grown: what a component must meet to touch them.
    threshold : float
    probability : (X, Y, Z) float ndarray, optional
        Of the label; without it, the prediction is a mask.
    regions : mapping of str to (X, Y, Z) ndarray, optional

    Returns
    -------
    View
    """
    overlaps = find_overlaps(reference_labels, prediction_labels)
    if reach is not None:
        overlaps = _with_touching(overlaps, find_overlaps(reach, prediction_labels))
    return View(
        case,
        label,
        float(threshold),
        voxel_volume_mm3,
        _side(reference_labels, probability, regions or {}),
        _side(prediction_labels, probability, regions or {}),
        overlaps,
    )


def _with_touching(overlaps: Overlaps, touching: Overlaps) -> Overlaps:
    """The touching pairs, with the voxels that they truly share."""
    base = int(touching.prediction.max(initial=0)) + 1
    shared = np.zeros(len(touching.voxels), np.int64)
    keys = touching.reference * base + touching.prediction
    shared[np.searchsorted(keys, overlaps.reference * base + overlaps.prediction)] = overlaps.voxels
    return Overlaps(touching.reference, touching.prediction, shared)


def _side(labels: np.ndarray, probability: np.ndarray | None, regions: Mapping) -> Side:
    count = int(labels.max(initial=0))
    voxels = component_voxels(labels, count)
    region = component_regions(labels, count, regions)
    if probability is None:
        unknown = np.full(count, np.nan)
        return Side(voxels, region, unknown, unknown)
    return Side(voxels, region, *component_probabilities(labels, count, probability))
