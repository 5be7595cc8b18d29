"""In which anatomical region a component lies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from segpipe.config.anatomy import NOWHERE


def component_regions(
    labels: np.ndarray, count: int, regions: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """The region that each component overlaps most.

    Parameters
    ----------
    labels : (X, Y, Z) int ndarray
        Components 1..count.
    count : int
    regions : mapping of str to (X, Y, Z) ndarray
        bool, or the share in [0, 1] by which a voxel belongs to the region. NaN counts as 0.

    Returns
    -------
    (count,) tuple of str
        The first of equals; ``none`` for a component that overlaps no region.
    """
    inside = labels > 0
    numbers = labels[inside]
    shares = np.zeros((len(regions) + 1, count))
    for row, region in enumerate(regions.values(), start=1):
        weights = np.nan_to_num(region[inside].astype(np.float64))
        shares[row] = np.bincount(numbers, weights=weights, minlength=count + 1)[1:]
    names = (NOWHERE, *regions)
    return tuple(names[row] for row in shares.argmax(axis=0))
