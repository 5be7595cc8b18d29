"""One label of one case, counted: label maps, components, voxels and surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segpipe.lesions.components import label_components
from segpipe.lesions.limits import Limits
from segpipe.lesions.paint import paint
from segpipe.lesions.reference import Lesions, find_lesions
from segpipe.lesions.view import Counts, View, make_view
from segpipe.metrics.overlap import VoxelCounts, count_voxels
from segpipe.metrics.surface import SurfaceDistances, surface_distances

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """One label of one case, counted, within the box that holds all of its components.

    Parameters
    ----------
    box : (slice, slice, slice)
        Where the arrays lie in the volume.
    lesions : Lesions
    prediction_labels : (x, y, z) int32 ndarray
        Components 1..M, those removed by size included.
    counts : Counts
    voxels : VoxelCounts
    surfaces : SurfaceDistances
    affine : (4, 4) float ndarray
    """

    box: Box
    lesions: Lesions
    prediction_labels: np.ndarray
    counts: Counts
    voxels: VoxelCounts
    surfaces: SurfaceDistances
    affine: np.ndarray

    def painted(self, shape: tuple[int, int, int]) -> np.ndarray:
        """The map of :func:`segpipe.lesions.paint.paint` in the whole volume."""
        whole = np.zeros(shape, np.uint8)
        matching = self.counts.matching
        whole[self.box] = paint(self.lesions.labels, self.prediction_labels, matching)
        return whole


def count_label(
    reference: np.ndarray,
    prediction: np.ndarray,
    affine: np.ndarray,
    limits: Limits,
    *,
    names: tuple[str, str] = ("", ""),
    instances: bool = False,
    probability: np.ndarray | None = None,
    threshold: float = float("nan"),
    regions: Mapping[str, np.ndarray] | None = None,
    view: View | None = None,
) -> LabelCounts:
    """Count one label of one case.

    Parameters
    ----------
    reference : (X, Y, Z) bool ndarray, or int ndarray of numbered lesions with ``instances``
    prediction : (X, Y, Z) bool ndarray
    affine : (4, 4) float ndarray
    limits : Limits
    names : (str, str)
        Case and label, for the view.
    instances : bool
        Whether the reference numbers its lesions itself (any positive numbers).
    probability : (X, Y, Z) float ndarray, optional
        What the prediction was cut from.
    threshold : float
        Where it was cut.
    regions : mapping of str to (X, Y, Z) ndarray, optional
    view : View, optional
        Of these very masks, read from a table: nothing is tabulated anew.

    Returns
    -------
    LabelCounts
    """
    box = union_box(reference, prediction, margin=limits.rule.dilation_voxels)
    reference, prediction = reference[box], prediction[box]
    lesions = find_lesions(reference, limits, instances=instances)
    prediction_labels = label_components(prediction, limits.connectivity)[0]
    if view is None:
        view = make_view(
            *names,
            lesions.labels,
            prediction_labels,
            float(abs(np.linalg.det(affine[:3, :3]))),
            reach=lesions.reach,
            threshold=threshold,
            probability=None if probability is None else np.nan_to_num(probability[box]),
            regions={name: region[box] for name, region in (regions or {}).items()},
        )
    mask = reference > 0
    present = view.present(limits)
    remaining = prediction > 0 if present.all() else np.r_[False, present][prediction_labels]
    return LabelCounts(
        box=box,
        lesions=lesions,
        prediction_labels=prediction_labels,
        counts=view.count(limits),
        voxels=count_voxels(mask, remaining),
        surfaces=surface_distances(mask, remaining, affine),
        affine=affine,
    )


def union_box(reference: np.ndarray, prediction: np.ndarray, *, margin: int = 0) -> Box:
    """The smallest box that holds every voxel above 0 of two (X, Y, Z) arrays, and a margin.

    A single slice stays one; where both are empty, the box is one voxel.
    """
    plane = np.any(reference, axis=2) | np.any(prediction, axis=2)
    x, y = _span(np.any(plane, axis=1)), _span(np.any(plane, axis=0))
    z = _span(np.any(reference[x, y], axis=(0, 1)) | np.any(prediction[x, y], axis=(0, 1)))
    across, along, up = (
        _widened(part, length, margin)
        for part, length in zip((x, y, z), reference.shape, strict=True)
    )
    return across, along, up


def _span(used: np.ndarray) -> slice:
    """From the first true entry to the last; the first entry where none is true."""
    where = np.flatnonzero(used)
    return slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 1)


def _widened(part: slice, length: int, margin: int) -> slice:
    """A margin on both sides; one slice of many gets a neighbour, lest it be a single slice."""
    start, stop = max(0, part.start - margin), min(length, part.stop + margin)
    if stop - start == 1 and length > 1:
        start, stop = (start, stop + 1) if stop < length else (start - 1, stop)
    return slice(start, stop)
