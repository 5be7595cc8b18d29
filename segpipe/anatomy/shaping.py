"""Region maps as arrays: cut, grown, softened, and summed into the weight of false positives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from segpipe.config import RegionConfig


def shape_map(
    values: np.ndarray,
    spacing_mm: Sequence[float],
    *,
    threshold: float | None = None,
    margin_mm: float = 0.0,
    soften_mm: float = 0.0,
    invert: bool = False,
) -> np.ndarray:
    """Cut, grow, soften and invert a map, in this order.

    Parameters
    ----------
    values : (X, Y, Z) float ndarray
        In [0, 1].
    spacing_mm : (3,) float
    threshold : float, optional
        Values above it become 1 and the others 0. None leaves the map soft.
    margin_mm : float
        Euclidean distance by which the region grows, or shrinks where negative. The map becomes
        a mask first, at 0.5 unless ``threshold`` did so. What lies outside the array is unknown:
        the region is not shrunk from there.
    soften_mm : float
        Standard deviation of a Gaussian; the value at the border of the array continues outside.
    invert : bool
        1 minus the map.

    Returns
    -------
    (X, Y, Z) float32 ndarray
        In [0, 1].

    Examples
    --------
    >>> line = np.zeros((5, 1, 1)); line[2] = 1
    >>> shape_map(line, (2, 1, 1), margin_mm=2.0).ravel().tolist()
    [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    result = np.asarray(values, dtype=np.float32)
    if threshold is not None:
        result = (result > threshold).astype(np.float32)
    if margin_mm != 0:
        result = _grow(result > 0.5, spacing_mm, margin_mm).astype(np.float32)
    if soften_mm > 0:
        sigma = [soften_mm / s for s in spacing_mm]
        result = ndimage.gaussian_filter(result, sigma, mode="nearest", truncate=3.0)
    if invert:
        result = 1 - result
    return np.clip(result, 0.0, 1.0).astype(np.float32, copy=False)


def _grow(mask: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> np.ndarray:
    if not mask.any() or mask.all():  # the distance to nothing is undefined
        return mask
    near = abs(margin_mm) + 1e-6
    if margin_mm > 0:
        return ndimage.distance_transform_edt(~mask, sampling=spacing_mm) <= near
    return ndimage.distance_transform_edt(mask, sampling=spacing_mm) > near


def false_positive_weight(
    maps: np.ndarray, names: Sequence[str], configured: Sequence[RegionConfig]
) -> np.ndarray:
    """Weight W = Σ_r w_r max(R_r, floor_r) of a false-positive voxel.

    Where a complement is left out, what it would weigh is not known: 1 counts there, not 0, as it
    does everywhere in a case without regions.

    Parameters
    ----------
    maps : (..., R) ndarray
        Floats in [0, 1], or uint8 in steps of 1/255 as the prepared cases hold them.
    names : (R,) sequence of str
        Regions that the case has.
    configured : sequence of RegionConfig
        All of them, with weight and floor.

    Returns
    -------
    (...) float32 ndarray

    Examples
    --------
    >>> csf = RegionConfig(name="csf", source="template", file="csf", weight=4.0, floor=0.25)
    >>> false_positive_weight(np.array([[1.0], [0.5], [0.0]]), ["csf"], [csf]).tolist()
    [4.0, 2.0, 1.0]
    >>> rest = RegionConfig(name="rest", source="complement", weight=3.0)
    >>> false_positive_weight(np.array([[1.0], [0.0]]), ["csf"], [csf, rest]).tolist()
    [4.0, 2.0]
    """
    if not names:
        return np.ones(maps.shape[:-1], dtype=np.float32)
    by_name = {region.name: region for region in configured}
    mine = [by_name[name] for name in names]
    inside = np.asarray(maps, dtype=np.float32)
    if maps.dtype == np.uint8:
        inside = inside / np.float32(255)
    floors = np.array([region.floor for region in mine], np.float32)
    floored = np.maximum(inside, floors) if floors.any() else inside
    weight = floored @ np.array([region.weight for region in mine], np.float32)
    complements = {region.name for region in configured if region.source == "complement"}
    if not complements <= set(names):
        weight = weight + (1 - inside.max(axis=-1))
    return weight
