"""Place and shape of components, in the scan's own world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

MIDLINE_TOLERANCE_MM = 5.0


@dataclass(frozen=True)
class ComponentShape:
    """What a report says about one component.

    Parameters
    ----------
    id : int
        Its number in the label map.
    voxels : int
    volume_ml : float
    longest_diameter_mm : float
    centroid_voxel : (float, float, float)
        Mean voxel index.
    side : {'L', 'R', 'midline'} or None
        Of the patient; see :func:`side_of`.
    touches_border : bool
        Whether it reaches the edge of the volume and may go on outside.
    """

    id: int
    voxels: int
    volume_ml: float
    longest_diameter_mm: float
    centroid_voxel: tuple[float, float, float]
    side: Literal["L", "R", "midline"] | None
    touches_border: bool


def describe_components(
    labels: np.ndarray, affine: np.ndarray, *, midline_x_mm: float | None = 0.0
) -> list[ComponentShape]:
    """Describe every component.

    Parameters
    ----------
    labels : (X, Y, Z) int ndarray
        Components 1..N; numbers that do not occur are left out.
    affine : (4, 4) float ndarray
        Voxel index to world coordinates in mm (RAS+).
    midline_x_mm : float or None
        World coordinate of the patient's midline: 0 in template space; elsewhere pass what is
        known, such as the centroid of the brain mask. None: not known, and no side is told.

    Returns
    -------
    list of ComponentShape
        In label order.
    """
    if not labels.any():
        return []
    statistics = cc3d.statistics(np.ascontiguousarray(labels, np.int32).view(np.uint32))
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    shapes = []
    for number in range(1, len(statistics["voxel_counts"])):
        voxels = int(statistics["voxel_counts"][number])
        if voxels == 0:
            continue
        box = statistics["bounding_boxes"][number]
        centre = statistics["centroids"][number].astype(float)
        world = affine[:3, :3] @ centre + affine[:3, 3]
        shapes.append(
            ComponentShape(
                id=number,
                voxels=voxels,
                volume_ml=float(voxels * voxel_ml),
                longest_diameter_mm=longest_diameter_mm(labels[box] == number, affine),
                centroid_voxel=(float(centre[0]), float(centre[1]), float(centre[2])),
                side=None if midline_x_mm is None else side_of(float(world[0]), midline_x_mm),
                touches_border=_touches(box, labels.shape),
            )
        )
    return shapes


def side_of(x_mm: float, midline_x_mm: float = 0.0) -> Literal["L", "R", "midline"]:
    """Side of the patient on which a world coordinate lies.

    World coordinates are RAS+: x grows to the patient's right. Within
    :data:`MIDLINE_TOLERANCE_MM` of the midline, no side is claimed.
    """
    if abs(x_mm - midline_x_mm) <= MIDLINE_TOLERANCE_MM:
        return "midline"
    return "R" if x_mm > midline_x_mm else "L"


def longest_diameter_mm(mask: np.ndarray, affine: np.ndarray) -> float:
    """Largest distance between two points of a component's surface.

    The surface runs half a voxel from the centres of the outermost voxels, along the axes, as in
    marching cubes: one voxel has its longest edge as diameter (maximum Feret diameter).

    Parameters
    ----------
    mask : (X, Y, Z) bool ndarray
        With at least one true voxel.
    affine : (4, 4) or (3, 3) float ndarray

    Returns
    -------
    float
        In mm; exact on oblique, anisotropic and sheared grids.

    Examples
    --------
    >>> import numpy as np
    >>> longest_diameter_mm(np.ones((3, 1, 1), bool), np.diag([2.0, 1, 1, 1]))
    6.0
    """
    ends = [_line_ends(mask, axis) for axis in range(3)]
    points = np.concatenate(ends) @ np.asarray(affine, float)[:3, :3].T
    hull = points[ConvexHull(points).vertices]
    return float(pdist(hull).max())


def in_plane_diameter_mm(mask: np.ndarray, affine: np.ndarray, axis: int) -> float:
    """Largest distance between two points of a component's outline in any one slice.

    The outline runs half a voxel from the centres of the outermost voxels, as in
    :func:`longest_diameter_mm`, which is never shorter.

    Parameters
    ----------
    mask : (X, Y, Z) bool ndarray
        With at least one true voxel.
    affine : (4, 4) or (3, 3) float ndarray
    axis : int
        Across the slices.

    Returns
    -------
    float
        In mm.

    Examples
    --------
    >>> import numpy as np
    >>> in_plane_diameter_mm(np.ones((3, 1, 9), bool), np.diag([2.0, 1, 1, 1]), axis=2)
    6.0
    """
    others = [a for a in range(3) if a != axis]
    directions = np.asarray(affine, float)[:3, others]
    steps = 0.5 * np.concatenate([np.eye(2), -np.eye(2)])
    longest = 0.0
    for index in np.flatnonzero(mask.any(axis=tuple(others))):
        centres = np.argwhere(np.take(mask, index, axis=axis))
        ends = (centres[:, None, :] + steps).reshape(-1, 2)
        hull = ends[ConvexHull(ends).vertices] @ directions.T
        longest = max(longest, float(pdist(hull).max()))
    return longest


def _line_ends(mask: np.ndarray, axis: int) -> np.ndarray:
    """(N, 3) voxel coordinates of the outer faces of every line along an axis that holds a voxel.

    Nothing beyond them can be part of a diameter. Found line by line, so that a component as large
    as a body takes no list of all of its voxels.
    """
    held = np.argwhere(mask.any(axis=axis))
    lines = tuple(held.T)
    first = mask.argmax(axis=axis)[lines] - 0.5
    last = mask.shape[axis] - 0.5 - np.flip(mask, axis).argmax(axis=axis)[lines]
    return np.concatenate([np.insert(held.astype(float), axis, end, 1) for end in (first, last)])


def _touches(box: tuple[slice, slice, slice], shape: tuple[int, ...]) -> bool:
    return any(
        size > 1 and (part.start == 0 or part.stop == size)
        for part, size in zip(box, shape, strict=True)
    )
