"""How likely one predicted component is a false positive, by what validation measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.lesions.components import large_enough, size_bins
from segpipe.metrics.detection import share_interval
from segpipe.report.validation import ENOUGH, Validation


@dataclass(frozen=True)
class Chance:
    """Chance that a component of this size and probability is a false positive.

    Parameters
    ----------
    value : float
        Share of false-positive components among those of validation in the same bin.
    components : int
        How many components that share was measured on.
    over_patients : (float, float) or None
        95 % interval of the share by bootstrap over patients; None where none is known.
    patients : int
        Whose components they were; 0: not recorded.
    """

    value: float
    components: int
    over_patients: tuple[float, float] | None = None
    patients: int = 0

    @property
    def false_positives(self) -> int:
        """How many of the components were false positives."""
        return round(self.value * self.components)

    @property
    def enough(self) -> bool:
        """Whether a percentage may be printed: :data:`ENOUGH` components, of as many patients."""
        return self.components >= ENOUGH and self.patients >= ENOUGH

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share, :func:`segpipe.metrics.detection.share_interval`."""
        limits = share_interval(self.false_positives, self.components, self.over_patients)
        assert limits is not None  # a chance is measured on one component at least
        return limits


def _holds_size(cell: Mapping[str, Any], size_mm3: float) -> bool:
    low, high = cell.get("low_mm3"), cell.get("high_mm3")
    edges = 0.0 if low is None else low, math.inf if high is None else high
    return bool(size_bins(np.array([size_mm3]), edges)[0] == 0)


def _holds_probability(cell: Mapping[str, Any], probability: float) -> bool:
    low, high = cell.get("low_probability"), cell.get("high_probability")
    above = low is None or probability >= low
    return above and (high is None or high >= 1 or probability < high)


def chance_of_false_positive(
    validation: Validation | None, label: str, size_mm3: float | None, probability: float | None
) -> Chance | None:
    """Look a component up among the bins measured on validation.

    Parameters
    ----------
    validation : Validation or None
    label : str
        A bin that names a label holds for that label only.
    size_mm3, probability : float or None
        Size and mean probability of the component.

    Returns
    -------
    Chance or None
        None where nothing was measured: no validation, no such bin, or an empty one.

    Examples
    --------
    >>> bins = [{"low_mm3": 0, "high_mm3": None, "low_probability": 0.5, "high_probability": 1.0,
    ...          "components": 8, "patients": 3, "false_positives": 2, "chance": 0.25,
    ...          "chance_ci95": [0, 0.6]}]
    >>> validation = Validation(4, 4, {}, (), bins)
    >>> chance_of_false_positive(validation, "lesion", 12.0, 1.0)
    Chance(value=0.25, components=8, over_patients=(0, 0.6), patients=3)
    >>> chance_of_false_positive(validation, "lesion", 12.0, 0.4) is None
    True
    """
    if validation is None or size_mm3 is None or probability is None:
        return None
    if not large_enough(np.array([size_mm3]), 1.0, validation.counted_from_mm3)[0]:
        return None
    for cell in validation.chances:
        if cell.get("label", label) != label:
            continue
        if _holds_size(cell, size_mm3) and _holds_probability(cell, probability):
            chance, components = cell.get("chance"), cell.get("components") or 0
            if chance is None or not math.isfinite(chance) or components == 0:
                return None
            limits = cell.get("chance_ci95")
            over_patients = tuple(limits) if limits else None
            patients = int(cell.get("patients") or 0)
            return Chance(float(chance), int(components), over_patients, patients)
    return None
