"""One predicted component as the reports tell of it."""

from __future__ import annotations

from dataclasses import dataclass

from segpipe.report.validation import Chance


@dataclass(frozen=True)
class Lesion:
    """A component of the prediction that passed the operating point.

    Parameters
    ----------
    id : int
        Number in the component label map.
    label, region, side : str or None
        Class, anatomical region and ``left``, ``right`` or ``midline``; None when not known.
    volume_ml : float
    longest_diameter_mm, mean_probability : float or None
    touches_border : bool
        A part of it can lie outside the scan.
    chance : Chance or None
        Of being a false positive, as measured on validation; None is 'not measured'.
    probability_std : float or None
        Standard deviation of its probability over the members of the ensemble, mean over its
        voxels; None where the members were not compared.
    member_share : float or None
        Share of the members that find it by themselves.
    """

    id: int
    label: str
    region: str | None
    side: str | None
    volume_ml: float
    longest_diameter_mm: float | None
    mean_probability: float | None
    touches_border: bool = False
    chance: Chance | None = None
    probability_std: float | None = None
    member_share: float | None = None
