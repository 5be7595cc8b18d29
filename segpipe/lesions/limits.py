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
            nan: a mask without probabilities, to which hysteresis does not apply. Compared in
            single precision, which probabilities are stored in, so that a stored 0.8 is not
            above 0.8.
        """
        present = large_enough(component_mm3, 1.0, self.removal_size_mm3)
        if self.core_threshold is not None:
            present &= ~(np.asarray(max_probability, np.float32) <= np.float32(self.core_threshold))
        if self.largest_only and present.any():
            largest = np.argmax(np.where(present, component_mm3, -1.0))
            present = np.arange(len(present)) == largest
        return present

    def kept(self, component_mm3: np.ndarray, max_probability: np.ndarray) -> np.ndarray:
        """(M,) bool: predicted components that are not removed and count."""
        counts = large_enough(component_mm3, 1.0, self.min_size_mm3)
        counts &= _above(component_mm3, self.rule.region_above_mm3)
        return counts & self.present(component_mm3, max_probability)


def _above(size_mm3: np.ndarray, limit_mm3: float) -> np.ndarray:
    return size_mm3 > limit_mm3 * (1 + SIZE_TOLERANCE)
