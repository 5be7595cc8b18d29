"""A map of what was found, what was invented and what was missed."""

from __future__ import annotations

import numpy as np

from segpipe.lesions.matching import Matching

TRUE_POSITIVE, FALSE_POSITIVE, MISSED = 1, 2, 3


def paint(
    reference_labels: np.ndarray, prediction_labels: np.ndarray, matching: Matching
) -> np.ndarray:
    """Paint true positive components, false-positive components and missed lesions.

    Parameters
    ----------
    reference_labels, prediction_labels : (X, Y, Z) int ndarray
        Components 1..N and 1..M.
    matching : Matching
        Of these components.

    Returns
    -------
    (X, Y, Z) uint8 ndarray
        1: true positive component; 2: false-positive component; 3: missed lesion, where no
        counted component lies over it; 0: everything else, ignored components included.
    """
    lesions = np.zeros(int(reference_labels.max(initial=0)) + 1, np.uint8)
    lesions[matching.missed] = MISSED
    components = np.zeros(int(prediction_labels.max(initial=0)) + 1, np.uint8)
    components[matching.true_positives] = TRUE_POSITIVE
    components[matching.false_positives] = FALSE_POSITIVE
    painted = components[prediction_labels]
    return np.where(painted > 0, painted, lesions[reference_labels])
