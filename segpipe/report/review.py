"""The page on which prepared cases are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from segpipe.classes import IGNORE
from segpipe.report.overlay import RegionLook, outline_level
from segpipe.report.page import render


@dataclass(frozen=True)
class RegionFacts:
    """A region in figures.

    Parameters
    ----------
    name : str
    volume_ml : float
        Sum of its map, which may be soft.
    inside : float or None
        Mean of the map over the reference's lesions; None where there is no lesion.
    level : float or None
        Value at which the map is outlined: 0.5, or half of its maximum where it stays below; None
        where it is 0 everywhere.
    """

    name: str
    volume_ml: float
    inside: float | None
    level: float | None


@dataclass(frozen=True)
class ReviewedCase:
    """A case on the page.

    Parameters
    ----------
    case : str
    picture : str
        SVG of :func:`overlay_svg`; empty where the case failed.
    regions : sequence of RegionFacts
    flags : sequence of str
        What was unusual when the case was read.
    error : str
        Why the case failed, or empty.
    """

    case: str
    picture: str = ""
    regions: Sequence[RegionFacts] = ()
    flags: Sequence[str] = ()
    error: str = ""


def region_facts(
    regions: np.ndarray, names: Sequence[str], reference: np.ndarray | None, voxel_mm3: float
) -> tuple[RegionFacts, ...]:
    """Volume of every region, and how much of the reference lies inside.

    Parameters
    ----------
    regions : (X, Y, Z, R) uint8 ndarray
        In steps of 1/255.
    names : sequence of str
    reference : (X, Y, Z) uint8 ndarray, optional
        Class indices; 255 is ignored.
    voxel_mm3 : float

    Examples
    --------
    >>> line = np.array([0, 255, 51, 0], np.uint8).reshape(4, 1, 1, 1)
    >>> region_facts(line, ["a"], np.array([0, 1, 1, 255]).reshape(4, 1, 1), 1000.0)
    (RegionFacts(name='a', volume_ml=1.2, inside=0.6, level=0.5),)
    """
    lesion = None if reference is None else (reference > 0) & (reference != IGNORE)
    facts = []
    for index, name in enumerate(names):
        values = regions[..., index]
        inside = None
        if lesion is not None and lesion.any():
            inside = float(values[lesion].mean() / 255)
        volume_ml = float(values.sum(dtype=np.int64)) / 255 * voxel_mm3 / 1000
        level = outline_level(values)
        facts.append(RegionFacts(name, volume_ml, inside, None if level is None else level / 255))
    return tuple(facts)


def review_page(
    name: str,
    shown: str,
    looks: Mapping[str, RegionLook],
    cases: Sequence[ReviewedCase],
) -> str:
    """All prepared cases on one page that needs no network.

    Parameters
    ----------
    name : str
        Of the experiment.
    shown : str
        In a sentence, which preparation is shown.
    looks : mapping of str to RegionLook
        All regions of the configuration.
    cases : sequence of ReviewedCase

    Returns
    -------
    str
    """
    values: dict[str, Any] = {
        "title": f"Prepared cases, {name}",
        "name": name,
        "shown": shown,
        "looks": looks,
        "total": sum(look.weight for look in looks.values()),
        "cases": [(one, Markup(one.picture)) for one in cases],  # escaped by overlay_svg
        "failed": sum(bool(one.error) for one in cases),
        "flagged": sum(bool(one.flags) for one in cases),
    }
    return render("prepare.html.j2", values)
