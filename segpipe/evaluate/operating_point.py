"""Threshold and minimum size, chosen from the table of components without new inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.evaluate.certify import Certificate
from segpipe.evaluate.rows import defined
from segpipe.evaluate.selection import mean_of, nearest_as_good
from segpipe.evaluate.tallies import Tallies, count_table
from segpipe.lesions.limits import Limits


@dataclass(frozen=True)
class Choice:
    """An operating point, and why.

    Parameters
    ----------
    operating_point : OperatingPoint
    figures : dict
        ``threshold``, ``min_size_mm3`` and the other columns of :func:`operating_curve` at this
        point; None where undefined or not in the table.
    reason : str
        In a sentence.
    certificate : Certificate, optional
        What was, or could be, certified; None where nobody asked.
    certified : bool
        Whether the operating point is the certificate's.
    chosen : bool
        Whether the cases had a say in the operating point, so that their figures at it are
        optimistic.
    steps : tuple of dict
        What was tried on these cases, gain and cost of each (:mod:`segpipe.evaluate.steps`).
    gain : dict, optional
        Of the chosen points over the configured one, in cases that had no say in them.
    """

    operating_point: OperatingPoint
    figures: dict[str, Any]
    reason: str
    certificate: Certificate | None = None
    certified: bool = False
    chosen: bool = False
    steps: tuple[dict[str, Any], ...] = ()
    gain: dict[str, Any] | None = None

    @property
    def certificate_document(self) -> dict[str, Any] | None:
        """The certificate and whether it was ``adopted``, for JSON."""
        if self.certificate is None:
            return None
        return {**asdict(self.certificate), "adopted": self.certified}


def validation_tallies(
    table: pd.DataFrame, config: EvaluateConfig, cases: Sequence[str], configured: OperatingPoint
) -> Tallies:
    """Counts at every threshold of the table and every minimum size that may be chosen."""
    sizes = sorted({*config.min_sizes_mm3, configured.min_size_mm3})
    return count_table(table, Limits.of(config, configured), cases, sizes)


def operating_curve(tallies: Tallies) -> pd.DataFrame:
    """What every threshold and minimum size would have given on these cases.

    Parameters
    ----------
    tallies : Tallies

    Returns
    -------
    DataFrame
        ``threshold``, ``min_size_mm3``, ``lesion_sensitivity``, ``lesion_f1`` (means over cases
        with a counted lesion; nan without any), ``false_positive_regions`` (mean over all cases),
        ``pooled_sensitivity`` (detected over all lesions of all cases). With several labels, a
        mean runs over cases and labels, and false-positive regions of a case are added up.
    """
    lesions = tallies.lesions
    sensitivity = tallies.detected / np.where(lesions > 0, lesions, np.nan)
    total = lesions.sum((0, 1))
    pooled = tallies.detected.sum((0, 1)) / np.where(total > 0, total, np.nan)
    grid = np.meshgrid(tallies.thresholds, tallies.min_sizes_mm3, indexing="ij")
    return pd.DataFrame(
        {
            "threshold": grid[0].ravel(),
            "min_size_mm3": grid[1].ravel(),
            "lesion_sensitivity": mean_of(_by_point(sensitivity)),
            "lesion_f1": mean_of(_by_point(tallies.f1)),
            "false_positive_regions": (
                tallies.false_positives.sum((0, 1)) / max(len(tallies.cases), 1)
            ).ravel(),
            "pooled_sensitivity": pooled.ravel(),
        }
    )


def _by_point(values: np.ndarray) -> np.ndarray:
    """(C, L, T, S) as (T · S, C · L), in the order of the curve."""
    cases, labels, thresholds, sizes = values.shape  # none of which need hold anything
    return values.reshape(cases * labels, thresholds * sizes).T


def _with_f1(tallies: Tallies) -> np.ndarray:
    """(C · L,) bool: where F1 is defined."""
    return ~np.isnan(_by_point(tallies.f1)).all(axis=0)


def choosable(tallies: Tallies) -> bool:
    """Whether there is a lesion to choose by."""
    return bool(operating_curve(tallies)["lesion_f1"].notna().any())


def choose(
    tallies: Tallies,
    config: EvaluateConfig,
    configured: OperatingPoint,
    patients: Mapping[str, str],
) -> Choice:
    """Choose threshold and minimum size as ``config.choose`` says, without a certificate.

    Parameters
    ----------
    tallies : Tallies
        Of :func:`validation_tallies`.
    config : EvaluateConfig
        f1 (also where ``certified`` could not be had): of the points whose mean lesion F1 is as
        good as the highest (:func:`~segpipe.evaluate.selection.nearest_as_good`), the one with
        the threshold nearest to ``configured``, then with the minimum size nearest to it, then
        with fewer false-positive regions. sensitivity: fewest false-positive regions among the
        points whose mean lesion sensitivity reaches the floor, or, where none does, among those
        with the highest sensitivity; ties go to higher sensitivity, then to the nearest
        threshold, then to the nearest minimum size. fixed: ``configured``.
    configured : OperatingPoint
        Kept under ``fixed``, where no case has a lesion to choose by, and, but for sensitivity,
        where only one patient has.
    patients : mapping of str to str
        Case to patient.

    Returns
    -------
    Choice
    """
    curve = operating_curve(tallies)
    if config.choose == "fixed":
        return kept(curve, configured, "fixed by configuration")
    if not choosable(tallies):
        return kept(curve, configured, "no validation case has a lesion")
    sizes = [*config.min_sizes_mm3, configured.min_size_mm3]
    offered = curve[np.isin(curve["min_size_mm3"], sizes)]
    owners = [patients[case] for case in tallies.cases for _ in tallies.labels]
    if config.choose == "sensitivity":
        index, reason = _fewest_false_positives(offered, config.sensitivity_floor, configured)
    elif len(set(np.asarray(owners)[_with_f1(tallies)])) < 2:
        return kept(curve, configured, "as configured: one patient says nothing about others")
    else:
        index, reason = _highest_f1(tallies, offered, configured, owners)
    figures = _plain(curve.iloc[index])
    best = {name: figures[name] for name in ("threshold", "min_size_mm3")}
    return Choice(configured.model_copy(update=best), figures, reason, chosen=True)


def _fewest_false_positives(
    offered: pd.DataFrame, floor: float, configured: OperatingPoint
) -> tuple[int, str]:
    eligible = offered[offered["lesion_sensitivity"] >= floor - 1e-12]
    reason = f"fewest false-positive regions at lesion sensitivity of at least {floor:g}"
    if not len(eligible):
        best = offered["lesion_sensitivity"].max()
        eligible = offered[offered["lesion_sensitivity"] >= best - 1e-12]
        reason = f"highest lesion sensitivity; the floor of {floor:g} is not reached"
    # means of one value in another order of cases differ by rounding
    wrong, sensitivity = (
        eligible[name].round(9) for name in ("false_positive_regions", "lesion_sensitivity")
    )
    near = _distances(eligible, configured)
    return int(eligible.index[np.lexsort((*near[::-1], -sensitivity, wrong))[0]]), reason


def _highest_f1(
    tallies: Tallies, offered: pd.DataFrame, configured: OperatingPoint, owners: Sequence[str]
) -> tuple[int, str]:
    near = _distances(offered, configured)
    order = offered.index[np.lexsort((offered["false_positive_regions"], *near[::-1]))]
    index = int(order[nearest_as_good(_by_point(tallies.f1)[order], owners)])
    f1 = offered["lesion_f1"]
    reason = f"highest mean lesion F1 on {len(tallies.cases)} validation cases"
    if f1[index] < f1.max() - 1e-12:
        reason = (
            f"mean lesion F1 {f1[index]:.3f}, within one standard error of the {reason} "
            f"({f1.max():.3f}); nearest to threshold {configured.threshold:g}"
        )
    return index, reason


def _distances(points: pd.DataFrame, configured: OperatingPoint) -> tuple[pd.Series, pd.Series]:
    """How far thresholds and minimum sizes lie from the configured ones."""
    thresholds = (points["threshold"] - configured.threshold).abs().round(6)
    return thresholds, (points["min_size_mm3"] - configured.min_size_mm3).abs()


def kept(curve: pd.DataFrame, point: OperatingPoint, reason: str) -> Choice:
    """A given operating point, with its figures where the curve has them."""
    near = np.isclose(curve["threshold"], point.threshold, rtol=0, atol=1e-9)
    near &= np.isclose(curve["min_size_mm3"], point.min_size_mm3, rtol=0, atol=1e-9)
    figures: dict[str, Any] = dict.fromkeys(curve.columns)
    figures |= {"threshold": point.threshold, "min_size_mm3": point.min_size_mm3}
    if near.any():
        figures = _plain(curve[near].iloc[0])
    return Choice(point, figures, reason)


def _plain(row: pd.Series) -> dict[str, Any]:
    return {str(name): defined(float(value)) for name, value in row.items()}
