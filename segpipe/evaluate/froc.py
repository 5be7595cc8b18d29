"""Free-response curves: lesion sensitivity against false-positive regions per scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from segpipe.evaluate.bootstrap import draw_patients
from segpipe.evaluate.rows import defined
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import THRESHOLDS
from segpipe.evaluate.tallies import Tallies, count_table

CPM_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False-positive regions per scan at which the competition performance metric reads a curve."""


def sensitivity_at(false_positives: np.ndarray, sensitivity: np.ndarray, rate: float) -> np.ndarray:
    """The best sensitivity with at most ``rate`` false-positive regions per scan.

    A step, not a line between points: every value returned was reached by a threshold. A threshold
    above all probabilities finds nothing and invents nothing, so 0 is always reached.

    Parameters
    ----------
    false_positives, sensitivity : (..., T) float ndarray
        One point per threshold, in any order.
    rate : float

    Returns
    -------
    (...) float ndarray
        nan where sensitivity is nan at every point.

    Examples
    --------
    >>> import numpy as np
    >>> float(sensitivity_at(np.array([9.0, 3.0, 0.5]), np.array([0.9, 0.7, 0.4]), 4.0))
    0.7
    """
    reached = np.where(false_positives <= rate, sensitivity, 0.0)
    best = np.max(np.nan_to_num(reached), axis=-1)
    return np.where(np.isnan(sensitivity).all(axis=-1), np.nan, best)


def cpm(false_positives: np.ndarray, sensitivity: np.ndarray) -> np.ndarray:
    """Competition performance metric: mean of :func:`sensitivity_at` over :data:`CPM_RATES`.

    Niemeijer et al., On combining computer-aided detection systems, IEEE Trans Med Imaging 2011.
    doi:10.1109/TMI.2010.2072789

    Parameters
    ----------
    false_positives, sensitivity : (..., T) float ndarray

    Returns
    -------
    (...) float ndarray
    """
    rates = [sensitivity_at(false_positives, sensitivity, rate) for rate in CPM_RATES]
    return np.mean(rates, axis=0)


def froc(
    tallies: Tallies, patients: Mapping[str, str] | None = None, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The curve of one label over threshold and minimum size.

    Parameters
    ----------
    tallies : Tallies
        Of one label.
    patients : mapping of str to str, optional
        Case to patient; without it every case is a patient.
    draws, seed : int
        Of the bootstrap over patients.

    Returns
    -------
    dict
        ``points``: ``threshold``, ``min_size_mm3``, ``sensitivity`` (detected over all lesions of
        all cases), ``false_positive_regions`` (per scan); ``cpm``: per minimum size
        ``min_size_mm3``, ``value``, ``ci95`` and ``sensitivity_at`` (rate to sensitivity), read at
        :data:`segpipe.evaluate.table.THRESHOLDS` alone where the table has them all, so that no
        further threshold makes a better curve. None without a lesion; ``ci95`` also with fewer
        than two patients.
    """
    detected, lesions, wrong = (
        array[:, 0].astype(float)
        for array in (tallies.detected, tallies.lesions, tallies.false_positives)
    )
    sensitivity, rate = _curve(detected.sum(0), lesions.sum(0), wrong.sum(0), len(tallies.cases))
    owners = [(patients or {}).get(case, case) for case in tallies.cases]
    weights = draw_patients(owners, draws, seed)
    read = np.isin(tallies.thresholds, THRESHOLDS)
    if read.sum() < len(THRESHOLDS):  # a table that was made at others
        read[:] = True
    points, values = [], []
    for s, size in enumerate(tallies.min_sizes_mm3.tolist()):
        points += [
            {
                "threshold": threshold,
                "min_size_mm3": size,
                "sensitivity": defined(sensitivity[t, s]),
                "false_positive_regions": float(rate[t, s]),
            }
            for t, threshold in enumerate(tallies.thresholds.tolist())
        ]
        column = rate[read, s], sensitivity[read, s]
        interval = None
        if weights is not None:
            drawn = _curve(
                weights @ detected[..., s],
                weights @ lesions[..., s],
                weights @ wrong[..., s],
                weights.sum(axis=1, keepdims=True),
            )
            interval = _interval(cpm(drawn[1][:, read], drawn[0][:, read]))
        values.append(
            {
                "min_size_mm3": size,
                "value": defined(float(cpm(*column))),
                "ci95": interval,
                "sensitivity_at": {
                    f"{r:g}": defined(float(sensitivity_at(*column, r))) for r in CPM_RATES
                },
            }
        )
    return {"points": points, "cpm": values}


def froc_by_label(
    table: pd.DataFrame, patients: Mapping[str, str], settings: ScoreSettings
) -> dict[str, Any]:
    """The curve of every label whose components were cut from probabilities.

    Parameters
    ----------
    table : DataFrame
        Of :func:`segpipe.evaluate.table.component_table`.
    patients : mapping of str to str
        All scored cases to their patients. A case without any row is a scan in which nothing is
        and nothing was found.
    settings : ScoreSettings
        Rule and limits, minimum sizes, and draws and seed of the bootstrap.

    Returns
    -------
    dict
        Label to curve; empty where there are only masks.
    """
    masks = set(table.loc[table["threshold"].isna(), "case"])
    cut = table[table["threshold"].notna()]
    cases = [case for case in patients if case not in masks]
    if not len(cut) or not cases:
        return {}
    tallies = count_table(cut, settings.limits(), cases, settings.froc_sizes_mm3)
    return {
        label: froc(tallies.label(label), patients, settings.bootstrap, settings.seed)
        for label in tallies.labels
    }


def _curve(detected, lesions, wrong, scans) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lesions > 0, detected / lesions, np.nan), wrong / scans


def _interval(values: np.ndarray) -> list[float] | None:
    """95 % interval over the draws that have a lesion; None without any."""
    known = values[~np.isnan(values)]
    return [float(q) for q in np.percentile(known, [2.5, 97.5])] if len(known) else None
