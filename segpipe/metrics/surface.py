"""Distances between the surfaces of two masks, weighted by surface area.

A surface element sits at every corner point between 2×2×2 voxels that are not all alike; voxels
beyond the edge of the volume are background. Its area is that of the marching-cubes triangles
through the midpoints of the edges between unlike voxels (those of the complement where more than
four of the eight voxels are foreground: a hole has the surface of a voxel). Its distance to the
other mask is that to the nearest surface element of it. In a single slice, the elements are the
corner points of 2×2 pixels and lengths take the place of areas.

These are the definitions of DeepMind's surface-distance package (Nikolov et al., Clinically
applicable segmentation of head and neck anatomy, J Med Internet Res 2021, doi:10.2196/26151);
on sheared grids, where that package is not defined, distances and areas are those in the world.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree

TOLERANCE_ROUNDING_MM = 1e-5
"""What a distance may exceed the tolerance by: affines are stored in single precision."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The surface elements of two masks.

    Parameters
    ----------
    reference_mm, prediction_mm : (N,) and (M,) float ndarray
        Distance of each element of one mask to the nearest element of the other, ascending.
    reference_area, prediction_area : (N,) and (M,) float ndarray
        Area (mm²; in a single slice, length in mm) of the same elements.
    """

    reference_mm: np.ndarray
    prediction_mm: np.ndarray
    reference_area: np.ndarray
    prediction_area: np.ndarray


def surface_distances(
    reference: np.ndarray, prediction: np.ndarray, affine: np.ndarray
) -> SurfaceDistances:
    """Find the surface elements of two masks and their distances.

    Parameters
    ----------
    reference, prediction : (X, Y, Z) bool ndarray
        An axis of length 1 makes a single slice.
    affine : (4, 4) or (3, 3) float ndarray

    Returns
    -------
    SurfaceDistances
        Where the other mask is empty, distances are inf; an empty mask has no elements.
    """
    linear = np.asarray(affine, float)[:3, :3]
    if 1 in reference.shape:
        flat = reference.shape.index(1)
        reference, prediction = reference.squeeze(flat), prediction.squeeze(flat)
        linear = np.delete(linear, flat, axis=1)
    first, first_area = _elements(reference, linear)
    second, second_area = _elements(prediction, linear)
    forth = _nearest_mm(first, second, reference.shape, linear)
    back = _nearest_mm(second, first, reference.shape, linear)
    order, reverse = np.argsort(forth, kind="stable"), np.argsort(back, kind="stable")
    return SurfaceDistances(forth[order], back[reverse], first_area[order], second_area[reverse])


def hausdorff95_mm(distances: SurfaceDistances) -> float:
    """The larger of the two directed 95th percentiles over surface elements, in mm.

    A directed percentile is the smallest distance within which 95 % of the surface area lie.
    Empty reference and prediction: nan. Empty reference only: nan. Empty prediction only: nan.
    """
    if not _both(distances):
        return math.nan
    return max(
        _percentile(distances.reference_mm, distances.reference_area, 0.95),
        _percentile(distances.prediction_mm, distances.prediction_area, 0.95),
    )


def average_symmetric_mm(distances: SurfaceDistances) -> float:
    """Mean distance over the area of both surfaces (ASSD), in mm.

    Empty reference and prediction: nan. Empty reference only: nan. Empty prediction only: nan.
    """
    if not _both(distances):
        return math.nan
    moment = distances.reference_mm @ distances.reference_area
    moment += distances.prediction_mm @ distances.prediction_area
    return float(moment / (distances.reference_area.sum() + distances.prediction_area.sum()))


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Share of the area of both surfaces that lies within a tolerance of the other surface.

    Empty reference and prediction: nan. Empty reference only: 0. Empty prediction only: 0.
    """
    limit = tolerance_mm + TOLERANCE_ROUNDING_MM
    total = distances.reference_area.sum() + distances.prediction_area.sum()
    if total == 0:
        return math.nan
    near = distances.reference_area[distances.reference_mm <= limit].sum()
    near += distances.prediction_area[distances.prediction_mm <= limit].sum()
    return float(near / total)


def _both(distances: SurfaceDistances) -> bool:
    return len(distances.reference_mm) > 0 and len(distances.prediction_mm) > 0


def _percentile(distances_mm: np.ndarray, area: np.ndarray, share: float) -> float:
    cumulated = np.cumsum(area) / area.sum()
    place = int(np.searchsorted(cumulated, share))
    return float(distances_mm[min(place, len(cumulated) - 1)])


def _elements(mask: np.ndarray, linear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place and area of the surface elements; element i lies between voxels i-1 and i.

    Places are flat C-order indices into the padded mask, ascending.
    """
    codes = np.pad(mask, 1).view(np.uint8).ravel()
    steps = _padded_steps(mask.shape)
    for power, step in enumerate(reversed(steps)):  # padding keeps lines from running together
        codes = codes[:-step] | codes[step:] << np.uint8(2**power)
    full = 2 ** (2**mask.ndim) - 1
    where = np.flatnonzero(codes - np.uint8(1) < np.uint8(full - 1))  # neither 0 nor full
    areas = _areas(linear) if mask.ndim == 3 else _lengths(linear)
    return where, areas[codes[where]]


def _padded_steps(shape: tuple[int, ...]) -> list[int]:
    """Flat distance of neighbours along each axis of the padded mask."""
    return [math.prod(n + 2 for n in shape[axis + 1 :]) for axis in range(len(shape))]


def _nearest_mm(
    elements: np.ndarray, others: np.ndarray, shape: tuple[int, ...], linear: np.ndarray
) -> np.ndarray:
    """Distance of each element to the nearest of the others.

    A tree over the elements, unlike a distance transform, costs what the surfaces cost and not
    what their bounding box costs, and is exact on sheared grids.
    """
    if len(elements) == 0 or len(others) == 0:
        return np.full(len(elements), np.inf)
    distance = np.zeros(len(elements))
    apart = ~np.isin(elements, others, assume_unique=True)  # the surfaces agree elsewhere
    padded = tuple(n + 2 for n in shape)
    points, targets = (
        np.stack(np.unravel_index(places, padded), axis=1) for places in (elements[apart], others)
    )
    tree = cKDTree(targets @ linear.T, leafsize=32, balanced_tree=False, compact_nodes=False)
    nearest = tree.query(points @ linear.T)[1]
    steps = points - targets[nearest]  # whole steps: one rounding, wherever the origin lies
    distance[apart] = np.linalg.norm(steps @ linear.T, axis=1)
    return distance


def _areas(linear: np.ndarray) -> np.ndarray:
    """Surface area in mm² for each of the 256 neighbourhoods."""
    codes, triangles = _triangles()
    world = triangles @ linear.T
    edges = world[:, 1:] - world[:, :1]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    return np.bincount(codes, weights=area, minlength=256)


@lru_cache(maxsize=1)
def _triangles() -> tuple[np.ndarray, np.ndarray]:
    """Neighbourhood (T,) and corners (T, 3, 3) in voxels of every marching-cubes triangle."""
    from skimage.measure import marching_cubes

    codes, triangles = [], []
    for code in range(1, 255):
        simple = code if code.bit_count() <= 4 else 255 - code
        cube = np.array([simple >> bit & 1 for bit in range(8)], float).reshape(2, 2, 2)
        corners, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")
        codes += [code] * len(faces)
        triangles.append(corners[faces].astype(float))
    return np.array(codes), np.concatenate(triangles)


def _lengths(linear: np.ndarray) -> np.ndarray:
    """Contour length in mm for each of the 16 neighbourhoods of a single slice."""
    first, second = linear[:, 0], linear[:, 1]
    falling, rising = np.linalg.norm(first - second) / 2, np.linalg.norm(first + second) / 2
    table = np.zeros(16)
    for bit, length in enumerate((falling, rising, rising, falling)):  # one pixel cut off
        table[1 << bit] = table[15 - (1 << bit)] = length
    table[[0b0011, 0b1100]] = np.linalg.norm(second)
    table[[0b0101, 0b1010]] = np.linalg.norm(first)
    table[0b1001], table[0b0110] = 2 * falling, 2 * rising
    return table
