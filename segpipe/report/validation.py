"""What the bundle's validation says about this model, where it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.metrics.detection import share_interval
from segpipe.report.wording import count, point_in_words

ENOUGH = 10
"""Components from which a share is printed in percent: below, 0 of 5 would read as 0 %.

So many patients, too, and so many before an interval over them is to be trusted.
"""


def few(patients: int | None) -> bool:
    """Whether patients are too few for an interval over them; not where they are not known.

    Examples
    --------
    >>> few(9), few(10), few(0), few(None)
    (True, False, False, False)
    """
    return patients is not None and 0 < patients < ENOUGH


def caution(patients: int | None) -> str:
    """What to think of intervals over so many patients; empty where they are not :func:`few`.

    Examples
    --------
    >>> caution(9)
    'Few patients: intervals over 9\\xa0patients are too narrow to be trusted.'
    >>> caution(1), caution(10)
    ('One patient: there is no interval over patients.', '')
    """
    if not few(patients):
        return ""
    if patients == 1:
        return "One patient: there is no interval over patients."
    so_many = count(patients or 0, "patient")
    return f"Few patients: intervals over {so_many} are too narrow to be trusted."


@dataclass(frozen=True)
class Validation:
    """The bundle's validation figures, at the operating point that they hold for.

    Parameters
    ----------
    cases, patients : int or None
    summary : mapping
        Label to metric to ``{"mean", "median", "ci95"}``.
    by_size : sequence of mapping
        Lesion sensitivity by size: low_mm3, high_mm3, lesions, detected, sensitivity and
        sensitivity_ci95 over patients.
    chances : sequence of mapping
        Bins of size and mean probability: components, false_positives, chance and chance_ci95
        over patients.
    certificate : str or None
        What is certified for this operating point, in a sentence; None: nothing.
    not_certified : str or None
        Why nothing could be certified; None where something could, or nobody tried.
    pooled : bool
        Whether the figures are those of several models, each on scans that it held out, at points
        that the others chose.
    counted_from_mm3 : float
        Smaller lesions and components were not counted.
    sensitivity : mapping or None
        Pooled over all labels: detected, lesions, value, ci95 over patients; None in bundles that
        do not record it.
    optimistic : tuple of str
        Why the figures are too good, in sentences.
    """

    cases: int | None
    patients: int | None
    summary: Mapping[str, Mapping[str, Any]]
    by_size: Sequence[Mapping[str, Any]]
    chances: Sequence[Mapping[str, Any]]
    certificate: str | None = None
    not_certified: str | None = None
    pooled: bool = False
    counted_from_mm3: float = 0.0
    sensitivity: Mapping[str, Any] | None = None
    optimistic: tuple[str, ...] = ()


@dataclass(frozen=True)
class SizeRow:
    """Lesion sensitivity in one bin of sizes.

    ``interval`` is that of :func:`segpipe.metrics.detection.share_interval`;
    ``sensitivity`` and ``interval`` are None where validation held no such lesion.
    """

    label: str | None
    low_mm3: float | None
    high_mm3: float | None
    lesions: int
    detected: int
    sensitivity: float | None
    interval: tuple[float, float] | None


def sensitivity_by_size(validation: Validation) -> tuple[SizeRow, ...]:
    """The bins of sizes with what was found in each."""
    return tuple(
        SizeRow(
            label=row.get("label"),
            low_mm3=row.get("low_mm3"),
            high_mm3=row.get("high_mm3"),
            lesions=row["lesions"],
            detected=row["detected"],
            sensitivity=row["detected"] / row["lesions"] if row["lesions"] else None,
            interval=share_interval(row["detected"], row["lesions"], row.get("sensitivity_ci95")),
        )
        for row in validation.by_size
    )


@dataclass(frozen=True)
class VolumeError:
    """By how much the total volume was wrong on validation scans: predicted minus reference.

    Parameters
    ----------
    scans : int
    median_ml : float
    middle_half_ml : (float, float)
        First and third quartile.
    median_relative : float or None
        Of the reference volume; None where no scan has any.
    """

    scans: int
    median_ml: float
    middle_half_ml: tuple[float, float]
    median_relative: float | None

    @property
    def enough(self) -> bool:
        """Whether it was measured on at least :data:`ENOUGH` scans."""
        return self.scans >= ENOUGH


def volume_error(validation: Validation | None) -> VolumeError | None:
    """Error of the total volume; None where it was not measured.

    With several labels too: the error of a sum is not the sum of errors that are known apart.
    """
    if validation is None or len(validation.summary) != 1:
        return None
    (summary,) = validation.summary.values()
    error, relative = summary.get("volume_error_ml") or {}, summary.get("relative_volume_error")
    if error.get("median") is None or error.get("iqr") is None:
        return None
    return VolumeError(
        scans=int(error.get("defined") or 0),
        median_ml=error["median"],
        middle_half_ml=(error["iqr"][0], error["iqr"][1]),
        median_relative=(relative or {}).get("median"),
    )


def read_validation(
    bundle: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    weights_sha256: str | None,
    certificate_void: str | None = None,
) -> tuple[Validation | None, str]:
    """The validation figures, only if they hold for these predictions.

    Parameters
    ----------
    bundle : mapping or None
        Content of ``bundle.json``; None when it was not found.
    settings : mapping
        Of the predictions: threshold, min_size_mm3 and, where they are used, core_threshold,
        largest_only, mirror_axes and connectivity.
    weights_sha256 : str or None
        Of the weights that made the predictions.
    certificate_void : str or None
        Why a certificate does not hold for what predicted; None: it does.

    Returns
    -------
    (Validation or None, str)
        The figures, or None and the reason in words.
    """
    if bundle is None:
        return None, "the bundle's validation figures were not found"
    if weights_sha256 is None or bundle.get("weights_sha256") != weights_sha256:
        return None, "the bundle found holds other weights than those that made this prediction"
    part = bundle.get("validation")
    if not part:
        return None, "this bundle was not validated"
    point = bundle.get("operating_point") or {}
    if not same_point(point, settings):
        return None, (
            f"validation was measured at {_point(point)}; "
            f"this prediction was made at {_point(settings)}"
        )
    axes, used_axes = bundle.get("mirror_axes"), settings.get("mirror_axes")
    if axes is not None and set(axes) != set(used_axes or ()):
        return None, (
            f"validation was measured with {_mirroring(axes)}; "
            f"this prediction was made with {_mirroring(used_axes or ())}"
        )
    counting = part.get("counting") or {}
    connected = counting.get("connectivity"), settings.get("connectivity")
    if None not in connected and connected[0] != connected[1]:
        return None, (
            f"validation counted {connected[0]}-connected components; "
            f"those of this prediction are {connected[1]}-connected"
        )
    certificate = part.get("certificate") or {}
    certified = certificate["statement"] if certificate.get("adopted") else None
    refused = _refusal(certificate)
    if certified is not None and certificate_void is not None:
        certified, refused = None, f"the bundle's does not hold here: {certificate_void}"
    return (
        Validation(
            cases=part.get("cases"),
            patients=part.get("patients"),
            summary=part.get("summary") or {},
            by_size=part.get("by_size") or (),
            chances=part.get("false_positive_chance") or (),
            certificate=certified,
            not_certified=refused,
            pooled=bool(part.get("pooled")),
            counted_from_mm3=float(counting.get("min_size_mm3") or 0.0),
            sensitivity=part.get("sensitivity"),
            optimistic=tuple(part.get("optimistic") or ()),
        ),
        "",
    )


def same_point(measured: Mapping[str, Any], used: Mapping[str, Any]) -> bool:
    """Whether two operating points, as JSON has them, are the same."""
    if bool(measured.get("largest_only")) != bool(used.get("largest_only")):
        return False
    for name in ("threshold", "min_size_mm3", "core_threshold"):
        mine, theirs = measured.get(name), used.get(name)
        if mine is None and theirs is None and name == "core_threshold":
            continue
        if mine is None or theirs is None or not math.isclose(mine, theirs, abs_tol=1e-9):
            return False
    return True


def _refusal(certificate: Mapping[str, Any]) -> str | None:
    if not certificate or certificate.get("threshold") is not None:
        return None
    return str(certificate.get("statement", "")).removeprefix("not certified: ")


def _point(point: Mapping[str, Any]) -> str:
    if point.get("threshold") is None or point.get("min_size_mm3") is None:
        return "an operating point that is not recorded"
    return point_in_words(point)


def _mirroring(axes: Sequence[str]) -> str:
    return f"mirroring along {', '.join(sorted(axes))}" if axes else "no mirroring"
