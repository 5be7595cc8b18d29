"""One label of one case, counted: the numbers that every score is a view of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segpipe.lesions.components import (
    Connectivity,
    Removed,
    component_voxels,
    label_components,
    large_enough,
)
from segpipe.lesions.matching import Matching, Overlaps, Rule, find_overlaps, match_overlaps
from segpipe.lesions.paint import paint
from segpipe.metrics.overlap import VoxelCounts, count_voxels
from segpipe.metrics.surface import SurfaceDistances, surface_distances

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Limits:
    """What makes a component, and which components count.

    Parameters
    ----------
    rule : Rule
    connectivity : int
    min_size_mm3 : float
        Lesions and predicted regions below it do not count; voxel-wise scores keep them.
    removal_size_mm3 : float
        Predicted components below it are removed from the prediction before everything else.
    """

    rule: Rule
    connectivity: Connectivity
    min_size_mm3: float
    removal_size_mm3: float


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """Components of one label on both sides, within the box that holds them all.

    Parameters
    ----------
    box : (slice, slice, slice)
        Where the arrays lie in the volume.
    reference_labels, prediction_labels : (x, y, z) int ndarray
        Lesions 1..N and predicted components 1..M, those removed by size included.
    reference_voxels, prediction_voxels : (N,) and (M,) int ndarray
    reference_counted, prediction_kept : (N,) and (M,) bool ndarray
        Those that reach the size limits.
    overlaps : Overlaps
    matching : Matching
    removed : Removed
        Predicted components that were dropped by their size.
    lesions_lost : int
        Lesions that only dropped components had touched.
    voxels : VoxelCounts
    surfaces : SurfaceDistances
    voxel_volume_mm3 : float
    """

    box: Box
    reference_labels: np.ndarray
    prediction_labels: np.ndarray
    reference_voxels: np.ndarray
    prediction_voxels: np.ndarray
    reference_counted: np.ndarray
    prediction_kept: np.ndarray
    overlaps: Overlaps
    matching: Matching
    removed: Removed
    lesions_lost: int
    voxels: VoxelCounts
    surfaces: SurfaceDistances
    voxel_volume_mm3: float

    def painted(self, shape: tuple[int, int, int]) -> np.ndarray:
        """The map of :func:`segpipe.lesions.paint.paint` in the whole volume."""
        whole = np.zeros(shape, np.uint8)
        whole[self.box] = paint(self.reference_labels, self.prediction_labels, self.matching)
        return whole


def count_label(
    reference: np.ndarray,
    prediction: np.ndarray,
    affine: np.ndarray,
    limits: Limits,
    *,
    instances: bool = False,
) -> LabelCounts:
    """Count one label of one case.

    Parameters
    ----------
    reference : (X, Y, Z) bool ndarray, or int ndarray of numbered lesions with ``instances``
    prediction : (X, Y, Z) bool ndarray
    affine : (4, 4) float ndarray
    limits : Limits
    instances : bool
        Whether the reference numbers its lesions itself (any positive numbers).

    Returns
    -------
    LabelCounts
    """
    box = union_box(reference, prediction)
    reference, prediction = reference[box], prediction[box]
    if instances:
        reference_labels, count = consecutive(reference)
    else:
        reference_labels, count = label_components(reference, limits.connectivity)
    prediction_labels, predicted = label_components(prediction, limits.connectivity)
    voxel_mm3 = float(abs(np.linalg.det(affine[:3, :3])))
    reference_voxels = component_voxels(reference_labels, count)
    prediction_voxels = component_voxels(prediction_labels, predicted)
    present = large_enough(prediction_voxels, voxel_mm3, limits.removal_size_mm3)
    kept = present & large_enough(prediction_voxels, voxel_mm3, limits.min_size_mm3)
    counted = large_enough(reference_voxels, voxel_mm3, limits.min_size_mm3)
    overlaps = find_overlaps(reference_labels, prediction_labels)
    mask = reference > 0
    remaining = np.r_[False, present][prediction_labels]
    return LabelCounts(
        box=box,
        reference_labels=reference_labels,
        prediction_labels=prediction_labels,
        reference_voxels=reference_voxels,
        prediction_voxels=prediction_voxels,
        reference_counted=counted,
        prediction_kept=kept,
        overlaps=overlaps,
        matching=match_overlaps(
            overlaps,
            reference_voxels,
            prediction_voxels,
            limits.rule,
            reference_counted=counted,
            prediction_kept=kept,
        ),
        removed=Removed(
            int((~kept).sum()), float(prediction_voxels[~kept].sum() * voxel_mm3 / 1000)
        ),
        lesions_lost=_lost(overlaps, counted, kept),
        voxels=count_voxels(mask, remaining),
        surfaces=surface_distances(mask, remaining, affine),
        voxel_volume_mm3=voxel_mm3,
    )


def _lost(overlaps: Overlaps, counted: np.ndarray, kept: np.ndarray) -> int:
    required = overlaps.where(counted[overlaps.reference - 1])
    left = required.where(kept[required.prediction - 1])
    return len(np.setdiff1d(required.reference, left.reference))


def consecutive(numbers: np.ndarray) -> tuple[np.ndarray, int]:
    """Renumber positive labels to 1..N, in ascending order; returns the map and N."""
    values = np.unique(numbers[numbers > 0])
    labels = np.zeros(numbers.shape, np.int32)
    inside = numbers > 0
    labels[inside] = np.searchsorted(values, numbers[inside]) + 1
    return labels, len(values)


def union_box(reference: np.ndarray, prediction: np.ndarray) -> Box:
    """The smallest box that holds every voxel above 0 of two (X, Y, Z) arrays.

    A single slice stays one; where both are empty, the box is one voxel.
    """
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        used = np.flatnonzero(reference.any(axis=others) | prediction.any(axis=others))
        start, stop = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        if stop - start == 1 and reference.shape[axis] > 1:  # one slice of many is no single slice
            start, stop = (start, stop + 1) if stop < reference.shape[axis] else (start - 1, stop)
        box.append(slice(start, stop))
    return box[0], box[1], box[2]
