"""One predicted component as the reports tell of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.lesions.places import NOWHERE
from segpipe.report.chance import Chance


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
        The diameter in space.
    touches_border : bool
        A part of it can lie outside the scan.
    chance : Chance or None
        Of being a false positive, as measured on validation; None is 'not measured'.
    in_plane_diameter_mm : float or None
        Longest diameter within one slice.
    implausible : bool
        It lies mainly outside the named anatomical regions.
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
    in_plane_diameter_mm: float | None = None
    implausible: bool = False
    probability_std: float | None = None
    member_share: float | None = None


def implausible_regions(
    configured: Sequence[Mapping[str, Any]], present: Collection[str]
) -> frozenset[str]:
    """Where a lesion lies outside the named anatomy.

    In no region, or in the complement of all others; but not in a complement that weighs less
    than every region, which is where lesions are expected. Nowhere while a region is left out,
    because what lies in it cannot be told.

    Parameters
    ----------
    configured : sequence of mapping
        Name, source and weight of the model's regions; empty when they are not known.
    present : collection of str
        Names of the regions that the case has.

    Returns
    -------
    frozenset of str

    Examples
    --------
    >>> brain = {"name": "brain", "source": "mask", "weight": 1.0}
    >>> rest = {"name": "outside", "source": "complement", "weight": 1.0}
    >>> sorted(implausible_regions([brain, rest], ["brain", "outside"]))
    ['none', 'outside']
    >>> sorted(implausible_regions([brain, {**rest, "weight": 0.5}], ["brain", "outside"]))
    ['none']
    >>> sorted(implausible_regions([brain, rest], ["brain"]))
    []
    >>> sorted(implausible_regions([brain, {**brain, "name": "ventricles"}], ["ventricles"]))
    []
    """
    if any(region.get("name") not in present for region in configured):
        return frozenset()
    rests = [region for region in configured if region.get("source") == "complement"]
    named = [region.get("weight", 1.0) for region in configured if region not in rests]
    return frozenset(
        {NOWHERE, *(r["name"] for r in rests if r.get("weight", 1.0) >= min(named, default=0.0))}
    )
