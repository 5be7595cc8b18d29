"""What the members of an ensemble disagree about: per voxel, and per component.

With p̄ the mean of the members' distributions p_m over background and labels, and H the entropy:

- predictive entropy H(p̄): how undecided the prediction is, whatever the reason;
- mutual information H(p̄) - mean of H(p_m): how far the members contradict each other. 0 where all
  say the same, however undecided.

Houlsby et al., Bayesian Active Learning for Classification and Preference Learning, 2011,
arXiv:1112.5745; for deep ensembles: Lakshminarayanan et al., 2017, arXiv:1612.01474.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from segpipe.lesions.classes import class_map
from segpipe.lesions.components import component_voxels


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Disagreement of M members about a scan.

    Parameters
    ----------
    entropy : (X, Y, Z) float32 ndarray
        Predictive entropy in bits: from 0 to log2(1 + K) for K labels.
    mutual_information : (X, Y, Z) float32 ndarray
        In bits; at most the entropy.
    std : (X, Y, Z, K) float32 ndarray
        Standard deviation of each label's probability over the members (divided by M).
    found : sequence of (ndarray, ndarray)
        Per member: flat indices of its own foreground voxels, and their classes 1..K.
    """

    entropy: np.ndarray
    mutual_information: np.ndarray
    std: np.ndarray
    found: Sequence[tuple[np.ndarray, np.ndarray]]


def entropy_bits(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of the distribution over background and labels.

    Parameters
    ----------
    probabilities : (..., K) float ndarray
        Of the labels; the background has what is missing to 1.

    Returns
    -------
    (...) float ndarray

    Examples
    --------
    >>> import numpy as np
    >>> entropy_bits(np.array([[0.5], [0.0], [1.0]])).tolist()
    [1.0, 0.0, 0.0]
    """
    background = np.clip(1 - probabilities.sum(axis=-1), 0, 1)
    total = special.entr(background)
    for k in range(probabilities.shape[-1]):
        total += special.entr(probabilities[..., k])
    return total / math.log(2)


class Spread:
    """Gathers the members' probabilities one after the other, without keeping them.

    Parameters
    ----------
    threshold : float
        Above which a member finds something.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.found: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, probabilities: np.ndarray) -> None:
        """Take in the (X, Y, Z, K) probabilities of a member."""
        if not self.found:
            self._entropy = np.zeros(probabilities.shape[:-1], np.float32)
            self._mean, self._squares = np.zeros_like(probabilities), np.zeros_like(probabilities)
        self._entropy += entropy_bits(probabilities)
        classes = class_map(probabilities, self.threshold).ravel()
        where = np.flatnonzero(classes)
        self.found.append((where, classes[where]))
        # Welford 1962: sums of squares would cancel
        change = probabilities - self._mean
        self._mean += change / len(self.found)
        self._squares += change * (probabilities - self._mean)

    def uncertainty(self, mean: np.ndarray) -> Uncertainty:
        """The disagreement.

        Parameters
        ----------
        mean : (X, Y, Z, K) float ndarray
            Mean of all members, as it is thresholded.
        """
        count = len(self.found)
        entropy = entropy_bits(mean).astype(np.float32)
        information = np.maximum(entropy - self._entropy / count, 0)
        return Uncertainty(entropy, information, np.sqrt(self._squares / count), self.found)


def component_agreement(
    components: np.ndarray, classes: Sequence[int], uncertainty: Uncertainty
) -> list[tuple[float, float]]:
    """How far the members agree about each component.

    Parameters
    ----------
    components : (X, Y, Z) int ndarray
        Numbered 1..N.
    classes : (N,) sequence of int
        Class of each, 1..K.
    uncertainty : Uncertainty

    Returns
    -------
    list of (float, float)
        Standard deviation of the class's probability over the members, mean over the component's
        voxels; share of the members for which, alone and at the same threshold, at least one of
        its voxels is of its class.
    """
    of = np.array([0, *classes])
    inside = components > 0
    numbers = components[inside]
    deviation = np.take_along_axis(uncertainty.std[inside], of[numbers][:, None] - 1, axis=1)[:, 0]
    total = np.bincount(numbers, weights=deviation, minlength=len(of))[1:]
    mean = total / np.maximum(component_voxels(components, len(classes)), 1)
    times = np.zeros(len(of))
    flat = components.ravel()
    for where, own in uncertainty.found:
        met = flat[where]
        times[np.unique(met[(met > 0) & (of[met] == own)])] += 1
    share = times[1:] / len(uncertainty.found)
    return list(zip(mean.tolist(), share.tolist(), strict=True))
