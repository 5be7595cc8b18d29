"""Operating points with a bound on the expected risk: conformal risk control.

Angelopoulos, Bates, Fisch, Lei, Schuster: Conformal Risk Control, 2022. arXiv:2208.02814
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segpipe.config import CertifyConfig
from segpipe.evaluate.tallies import Tallies

Risk = Literal["missed_lesions", "false_positive_regions"]
PURPOSE_TUNING = 73


@dataclass(frozen=True)
class Certificate:
    """What can be promised, or why nothing can.

    Parameters
    ----------
    risk : {'missed_lesions', 'false_positive_regions'}
    alpha, bound : float
        Level, and the largest loss of a patient.
    patients, needed : int
        Calibration patients there were, and how many the level needs at least.
    threshold : float or None
        Of probability; None: not certified.
    min_size_mm3 : float
        Fixed before calibration.
    empirical, corrected : float or None
        Mean loss of the calibration patients at the threshold (at the safest one where nothing is
        certified), and n/(n+1) of it plus bound/(n+1).
    statement : str
        The promise, or the reason why there is none, in a sentence.
    """

    risk: Risk
    alpha: float
    bound: float
    patients: int
    needed: int
    threshold: float | None
    min_size_mm3: float
    empirical: float | None
    corrected: float | None
    statement: str


def patients_needed(alpha: float, bound: float) -> int:
    """Calibration patients without which no threshold can reach a level: ⌈B/α − 1⌉.

    Examples
    --------
    >>> [patients_needed(alpha, 1.0) for alpha in (0.05, 0.1, 0.2)]
    [19, 9, 4]
    """
    return max(1, math.ceil(bound / alpha - 1 - 1e-9))


def corrected_risk(losses: np.ndarray, bound: float) -> np.ndarray:
    """n/(n+1) · mean + B/(n+1), over the first axis.

    Parameters
    ----------
    losses : (n, T) float ndarray
    bound : float
        B, the largest loss.

    Returns
    -------
    (T,) float ndarray
    """
    count = len(losses)
    return (losses.sum(axis=0) + bound) / (count + 1)


def controlled(losses: np.ndarray, alpha: float, bound: float) -> int | None:
    """The most useful point whose expected loss is bounded by α.

    Parameters
    ----------
    losses : (n, T) float ndarray
        Loss of each exchangeable patient at each point, in [0, B]; points in order from the
        safest to the most useful. Where a loss falls along that order it is replaced by its
        running maximum: the method needs monotone losses.
    alpha, bound : float

    Returns
    -------
    int or None
        The last index with ``n/(n+1)·R̂ + B/(n+1) ≤ α`` up to which all hold; None where the safest
        does not.

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.repeat([[0.0, 0.0, 1.0]], 9, axis=0)
    >>> controlled(losses, 0.1, 1.0), controlled(losses[:8], 0.1, 1.0)
    (1, None)
    """
    monotone = np.maximum.accumulate(losses, axis=1)
    holds = np.flatnonzero(corrected_risk(monotone, bound) <= alpha + 1e-12)
    return int(holds[-1]) if len(holds) else None


def patient_losses(
    tallies: Tallies, patients: Mapping[str, str], size: int, config: CertifyConfig
) -> np.ndarray:
    """Loss of each patient at each threshold.

    Parameters
    ----------
    tallies : Tallies
    patients : mapping of str to str
        Case to patient.
    size : int
        Index of the minimum size.
    config : CertifyConfig
        missed_lesions: missed over all lesions of the patient; a patient without a lesion is left
        out. false_positive_regions: regions per scan, at most ``config.cap``.

    Returns
    -------
    (n, T) float ndarray
        In order of the patients' names; thresholds ascending.
    """
    owners = np.array([patients[case] for case in tallies.cases])
    losses = []
    for owner in np.unique(owners):
        mine = owners == owner
        if config.risk == "false_positive_regions":
            regions = tallies.false_positives[mine][..., size].sum((0, 1))
            losses.append(np.minimum(regions / mine.sum(), config.cap))
            continue
        missed = tallies.missed[mine][..., size].sum((0, 1))
        lesions = tallies.lesions[mine][..., size].sum((0, 1))
        if lesions.any():
            losses.append(missed / lesions)
    return np.array(losses, float).reshape(len(losses), len(tallies.thresholds))


def certify(
    tallies: Tallies,
    patients: Mapping[str, str],
    min_size_mm3: float,
    config: CertifyConfig,
    obstacle: str | None = None,
) -> Certificate:
    """Find the threshold that bounds the expected risk.

    Parameters
    ----------
    tallies : Tallies
        Of the calibration cases, counted by rule ``any``: its losses are monotone in the threshold.
    patients : mapping of str to str
        Case to patient: the unit that is exchangeable.
    min_size_mm3 : float
        Among the sizes of ``tallies``; fixed on other patients, or beforehand.
    config : CertifyConfig
    obstacle : str, optional
        Why these cases cannot calibrate at all.

    Returns
    -------
    Certificate
        missed_lesions: the highest threshold that holds; false_positive_regions: the lowest.
    """
    missed = config.risk == "missed_lesions"
    bound = 1.0 if missed else config.cap
    size = int(np.flatnonzero(np.isclose(tallies.min_sizes_mm3, min_size_mm3))[0])
    losses = patient_losses(tallies, patients, size, config)
    thresholds = tallies.thresholds
    if not missed:  # safest first: few false positives at high thresholds
        losses, thresholds = losses[:, ::-1], thresholds[::-1]
    needed = patients_needed(config.alpha, bound)
    index = None
    if obstacle is None and len(losses) >= needed:
        index = controlled(losses, config.alpha, bound)
    at = index or 0
    known = len(losses) > 0 and len(thresholds) > 0
    monotone = np.maximum.accumulate(losses, axis=1)
    return Certificate(
        risk=config.risk,
        alpha=config.alpha,
        bound=bound,
        patients=len(losses),
        needed=needed,
        threshold=None if index is None else float(thresholds[index]),
        min_size_mm3=float(min_size_mm3),
        empirical=float(monotone[:, at].mean()) if known else None,
        corrected=float(corrected_risk(monotone, bound)[at]) if known else None,
        statement=obstacle or _statement(config, len(losses), needed, certified=index is not None),
    )


def _statement(config: CertifyConfig, patients: int, needed: int, *, certified: bool) -> str:
    missed = config.risk == "missed_lesions"
    what = "missed-lesion fraction" if missed else "false-positive regions per scan"
    kind = "patients with lesions" if missed else "patients"
    if certified:
        capped = "" if missed else f" (counted up to {config.cap:g})"
        return (
            f"expected {what}{capped} ≤ {config.alpha:g} for {kind} exchangeable with the "
            f"{patients} calibration patients: an expectation over patients and calibrations, of "
            "which one that certifies nothing counts as no loss; not a promise for each cohort"
        )
    if patients < needed:
        return (
            f"not certified: {patients} calibration {kind} are too few for an expected {what} ≤ "
            f"{config.alpha:g}; at least {needed} are needed"
        )
    return (
        f"not certified: no threshold of the table bounds the expected {what} by {config.alpha:g} "
        f"on {patients} calibration {kind}"
    )


def split_patients(
    patients: Sequence[str], tuning_share: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide patients into those that choose the minimum size and those that calibrate.

    Parameters
    ----------
    patients : sequence of str
    tuning_share : float
        In [0, 1); rounded to whole patients.
    seed : int

    Returns
    -------
    tuning, calibration : tuple of str
        Sorted; disjoint, together all of them.
    """
    names = sorted(set(patients))
    order = np.random.default_rng([seed, PURPOSE_TUNING]).permutation(len(names))
    count = round(tuning_share * len(names))
    parts = order[:count], order[count:]
    tuning, calibration = (tuple(sorted(names[i] for i in part)) for part in parts)
    return tuning, calibration
