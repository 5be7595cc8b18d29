"""Region maps as arrays: cut, grown, softened, and summed into one penalty map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def shape_map(
    values: np.ndarray,
    spacing_mm: Sequence[float],
    *,
    threshold: float | None = None,
    margin_mm: float = 0.0,
    soften_mm: float = 0.0,
    invert: bool = False,
    floor: float = 0.0,
) -> np.ndarray:
    """Cut, grow, soften and invert a map, in this order, and raise it to its floor.

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
    floor : float
        Lowest value of the result.

    Returns
    -------
    (X, Y, Z) float32 ndarray
        In [floor, 1].

    Examples
    --------
    >>> line = np.zeros((5, 1, 1)); line[2] = 1
    >>> shape_map(line, (2, 1, 1), margin_mm=2.0, floor=0.25).ravel().tolist()
    [0.25, 1.0, 1.0, 1.0, 0.25]
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
    return np.clip(result, floor, 1.0).astype(np.float32, copy=False)


def _grow(mask: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> np.ndarray:
    if not mask.any() or mask.all():  # the distance to nothing is undefined
        return mask
    near = abs(margin_mm) + 1e-6
    if margin_mm > 0:
        return ndimage.distance_transform_edt(~mask, sampling=spacing_mm) <= near
    return ndimage.distance_transform_edt(mask, sampling=spacing_mm) > near


def penalty_map(regions: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Weight W = Σ_r w_r R_r of a false-positive voxel; 1 everywhere when there are no regions.

    Parameters
    ----------
    regions : (..., R) ndarray
        Floats in [0, 1], or uint8 in steps of 1/255 as the prepared cases hold them.
    weights : (R,) float
        Not negative.

    Returns
    -------
    (...) float32 ndarray

    Raises
    ------
    ValueError
        If the number of weights is not that of the regions, or one is negative or not finite.

    Examples
    --------
    >>> penalty_map(np.array([[1.0, 0.0], [0.5, 0.5]]), (1.0, 4.0)).tolist()
    [1.0, 2.5]
    >>> penalty_map(np.zeros((2, 0)), ()).tolist()
    [1.0, 1.0]
    """
    factors = np.asarray(weights, dtype=np.float32)
    if factors.shape != regions.shape[-1:]:
        raise ValueError(
            f"weights: expected {regions.shape[-1]}, one per region; received {factors.tolist()}"
        )
    if not (np.isfinite(factors).all() and (factors >= 0).all()):
        raise ValueError(f"weights: expected finite numbers from 0; received {factors.tolist()}")
    if not factors.size:
        return np.ones(regions.shape[:-1], dtype=np.float32)
    steps = np.float32(255 if regions.dtype == np.uint8 else 1)
    return np.asarray(regions, dtype=np.float32) @ (factors / steps)
