"""From probabilities to classes."""

from __future__ import annotations

import numpy as np


def class_map(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """The class of every voxel at a threshold.

    A voxel is foreground where the foreground probabilities add up to more than ``threshold``,
    strictly; its class is then the most probable one, the first of equals. The comparison is
    made in the precision of the array, so that a stored 0.3 is not above 0.3.

    Parameters
    ----------
    probabilities : (X, Y, Z) or (X, Y, Z, K) float ndarray
        Of the K foreground classes; without the last axis, of the only one. NaN counts as 0.
    threshold : float

    Returns
    -------
    (X, Y, Z) uint8 ndarray
        0 for background, else 1..K.

    Examples
    --------
    >>> import numpy as np
    >>> class_map(np.array([[[[0.3, 0.3], [0.2, 0.6], [0.5, 0.0]]]]), 0.5).tolist()
    [[[1, 2, 0]]]
    """
    threshold = float(threshold)
    if probabilities.ndim == 3:
        return (probabilities > threshold).astype(np.uint8)
    if probabilities.shape[-1] == 1:
        return (probabilities[..., 0] > threshold).astype(np.uint8)
    classes = np.zeros(probabilities.shape[:3], np.uint8)
    for plane, own in zip(probabilities, classes, strict=True):  # a large scan has no room for more
        finite = np.where(np.isnan(plane), 0, plane)
        own[...] = finite.argmax(axis=-1) + 1
        own[finite.sum(axis=-1) <= threshold] = 0
    return classes
