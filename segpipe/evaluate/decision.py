"""From a table of components to the operating point: chosen, and certified where possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.config.rules import parse_rule
from segpipe.evaluate.certify import Certificate, certify, split_patients
from segpipe.evaluate.operating_point import (
    Choice,
    choose,
    kept,
    operating_curve,
    validation_tallies,
)
from segpipe.evaluate.tallies import Tallies


def decide(
    table: pd.DataFrame,
    config: EvaluateConfig,
    patients: Mapping[str, str],
    configured: OperatingPoint,
    *,
    seed: int = 0,
    obstacle: str | None = None,
) -> Choice:
    """Choose the operating point on validation cases, and say what can be certified.

    Parameters
    ----------
    table : DataFrame
        Components of the validation cases; must hold the threshold of ``configured``.
    config : EvaluateConfig
        certified: the certificate's threshold at its minimum size, or, where nothing can be
        certified, as ``f1``. Otherwise as :func:`segpipe.evaluate.operating_point.choose`; the
        certificate then says what could be had.
    patients : mapping of str to str
        All validation cases, those without any component included, to their patients.
    configured : OperatingPoint
    seed : int
        Of the division of patients into tuning and calibration.
    obstacle : str, optional
        Why these cases cannot calibrate, whatever they hold.

    Returns
    -------
    Choice
    """
    tallies = validation_tallies(table, config, list(patients), configured)
    certificate = _certificate(tallies, config, patients, configured, seed, obstacle)
    if config.choose != "certified":
        return replace(choose(tallies, config, configured), certificate=certificate)
    if certificate.threshold is None:
        choice = choose(tallies, config, configured)
        reason = f"{choice.reason}, as nothing can be certified"
        return replace(choice, reason=reason, certificate=certificate)
    chosen = {"threshold": certificate.threshold, "min_size_mm3": certificate.min_size_mm3}
    point = configured.model_copy(update=chosen)
    choice = kept(operating_curve(tallies), point, f"certified: {certificate.statement}")
    return replace(choice, certificate=certificate, certified=True)


def _certificate(
    tallies: Tallies,
    config: EvaluateConfig,
    patients: Mapping[str, str],
    configured: OperatingPoint,
    seed: int,
    obstacle: str | None,
) -> Certificate:
    if parse_rule(config.rule).kind != "any":
        obstacle = f"not certified: expected rule any; these cases are counted by {config.rule}"
    share = config.certify.tuning_share
    tuning, calibration = split_patients(list(patients.values()), share, seed)
    size = configured.min_size_mm3
    if tuning:
        chosen = choose(tallies.of(_cases_of(tuning, patients)), config, configured)
        size = chosen.operating_point.min_size_mm3
    held = tallies.of(_cases_of(calibration, patients))
    return certify(held, patients, size, config.certify, obstacle)


def _cases_of(names: Sequence[str], patients: Mapping[str, str]) -> list[str]:
    return [case for case, patient in patients.items() if patient in names]
