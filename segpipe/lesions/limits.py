"""What makes a component, and which components count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.config.rules import Rule, parse_rule
from segpipe.lesions.components import SIZE_TOLERANCE, Connectivity, large_enough


@dataclass(frozen=True)
class Limits:
    """A counting rule with its limits.

    Parameters
    ----------
    rule : Rule
    connectivity : {6, 18, 26}
    min_size_mm3 : float
        Lesions and predicted components below it do not count; voxel-wise scores keep them.
    removal_size_mm3 : float
        Predicted components below it are removed from the prediction before everything else.
    core_threshold : float or None
        Hysteresis: predicted components without a voxel above it are removed likewise.
    largest_only : bool
        Of the components that are left, all but the largest are removed, the first of equals.
    """

    rule: Rule
    connectivity: Connectivity = 26
    min_size_mm3: float = 0.0
    removal_size_mm3: float = 0.0
    core_threshold: float | None = None
    largest_only: bool = False

    @classmethod
    def of(cls, evaluate: EvaluateConfig, point: OperatingPoint) -> Limits:
        """The limits of a configuration at an operating point."""
        return cls(
            parse_rule(evaluate.rule),
            evaluate.connectivity,
            evaluate.min_size_mm3,
            point.min_size_mm3,
            point.core_threshold,
            point.largest_only,
        )

    def counted(self, lesion_mm3: np.ndarray) -> np.ndarray:
        """(N,) bool: lesions of these sizes that are required."""
        above = _above(lesion_mm3, self.rule.lesion_above_mm3)
        return large_enough(lesion_mm3, 1.0, self.min_size_mm3) & above

    def present(self, component_mm3: np.ndarray, max_probability: np.ndarray) -> np.ndarray:
        """(M,) bool: predicted components of a label that are not removed.

        Parameters
        ----------
        component_mm3, max_probability : (M,) float ndarray
            As :func:`remaining` takes them.
        """
        return remaining(
            component_mm3,
            max_probability,
            min_size_mm3=self.removal_size_mm3,
            core_threshold=self.core_threshold,
            largest_only=self.largest_only,
        )

    def kept(self, component_mm3: np.ndarray, max_probability: np.ndarray) -> np.ndarray:
        """(M,) bool: predicted components that are not removed and count."""
        counts = large_enough(component_mm3, 1.0, self.min_size_mm3)
        counts &= _above(component_mm3, self.rule.region_above_mm3)
        return counts & self.present(component_mm3, max_probability)


def remaining(
    component_mm3: np.ndarray,
    max_probability: np.ndarray,
    *,
    min_size_mm3: float,
    core_threshold: float | None,
    largest_only: bool,
) -> np.ndarray:
    """Which components of a label an operating point leaves: in masks and in scores alike.

    Parameters
    ----------
    component_mm3, max_probability : (M,) float ndarray
        Size, and highest probability. nan: a mask without probabilities, to which hysteresis does
        not apply.
    min_size_mm3 : float
        What is smaller goes first.
    core_threshold : float or None
        Then, by hysteresis, what has no voxel above it. Compared in single precision, which
        probabilities are stored in, so that a stored 0.8 is not above 0.8.
    largest_only : bool
        Of what is left all but the largest go, the first of equals.

    Returns
    -------
    (M,) bool ndarray

    Examples
    --------
    >>> import numpy as np
    >>> sizes, highest = np.array([2.0, 8.0, 9.0, 9.0]), np.array([0.9, 0.6, 0.9, 0.8])
    >>> point = {"min_size_mm3": 5.0, "core_threshold": 0.7}
    >>> remaining(sizes, highest, **point, largest_only=False).tolist()
    [False, False, True, True]
    >>> remaining(sizes, highest, **point, largest_only=True).tolist()
    [False, False, True, False]
    """
    left = large_enough(component_mm3, 1.0, min_size_mm3)
    if core_threshold is not None:
        left &= ~(np.asarray(max_probability, np.float32) <= np.float32(core_threshold))
    if largest_only and left.any():
        largest = np.argmax(np.where(left, component_mm3, -1.0))
        left = np.arange(len(left)) == largest
    return left


def _above(size_mm3: np.ndarray, limit_mm3: float) -> np.ndarray:
    return size_mm3 > limit_mm3 * (1 + SIZE_TOLERANCE)
