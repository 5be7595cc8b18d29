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
    choosable,
    choose,
    kept,
    operating_curve,
    validation_tallies,
)
from segpipe.evaluate.steps import try_steps
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
        certified, as ``f1``. Otherwise as :func:`segpipe.evaluate.operating_point.choose`, and
        the further steps of :func:`segpipe.evaluate.steps.try_steps` that help; the certificate
        then says what could be had. Nothing is added to a certified point: it would not hold for
        what other steps remove.
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
        choice = _chosen(table, tallies, config, configured, patients)
        return replace(choice, certificate=certificate)
    if certificate.threshold is None:
        choice = _chosen(table, tallies, config, configured, patients)
        reason = f"{choice.reason}, as nothing can be certified"
        return replace(choice, reason=reason, certificate=certificate)
    chosen = {"threshold": certificate.threshold, "min_size_mm3": certificate.min_size_mm3}
    point = configured.model_copy(update=chosen)
    choice = kept(operating_curve(tallies), point, f"certified: {certificate.statement}")
    return replace(choice, certificate=certificate, certified=True, chosen=True)


def _chosen(
    table: pd.DataFrame,
    tallies: Tallies,
    config: EvaluateConfig,
    configured: OperatingPoint,
    patients: Mapping[str, str],
) -> Choice:
    choice = choose(tallies, config, configured, patients)
    if config.choose == "fixed" or not choosable(tallies):
        return choice
    return try_steps(table, tallies, choice, config, configured, patients)


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
        mine = tallies.of(_cases_of(tuning, patients))
        chosen = choose(mine, config, configured, patients)
        size = chosen.operating_point.min_size_mm3
    held = tallies.of(_cases_of(calibration, patients))
    return certify(held, patients, size, config.certify, obstacle)


def _cases_of(names: Sequence[str], patients: Mapping[str, str]) -> list[str]:
    return [case for case, patient in patients.items() if patient in names]
