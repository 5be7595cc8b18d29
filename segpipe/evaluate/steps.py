"""Post-processing, step by step: what each does for the validation cases, and what it costs.

Threshold, minimum size, hysteresis and keeping the largest region only. A step beyond the first
two is adopted by the rule of :mod:`segpipe.evaluate.selection`: where the present setting falls
short of the best by more than one standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.evaluate.operating_point import Choice
from segpipe.evaluate.outcome import Outcome, compare_outcomes, outcomes, tallied
from segpipe.evaluate.rows import defined
from segpipe.evaluate.selection import TOLERANCE, mean_of, nearest_as_good, standard_error
from segpipe.evaluate.tallies import Tallies


class Trial:
    """Tries steps one after the other on the same cases, and keeps account.

    Parameters
    ----------
    table : DataFrame
        Components of the validation cases.
    config : EvaluateConfig
    patients : mapping of str to str
        All validation cases to their patients.
    tallies : Tallies
        The same, counted at every threshold and minimum size.
    start : OperatingPoint
        The configured one, with whose core threshold and rank the tallies were counted.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        config: EvaluateConfig,
        patients: Mapping[str, str],
        tallies: Tallies,
        start: OperatingPoint,
    ) -> None:
        self.table = table
        self.config = config
        self.patients = patients
        self.tallies = tallies
        self.present = tallied(tallies, start)
        self.account: list[dict[str, Any]] = []

    def settle(self, name: str, value: float, others: Sequence[float]) -> None:
        """Adopt a value that was chosen already; where it is the present one, try another.

        Parameters
        ----------
        name : {'threshold', 'min_size_mm3'}
        value : float
        others : sequence of float
            What else could have been chosen; the best of them is accounted for.
        """
        if not np.isclose(value, getattr(self.present.point, name), rtol=0, atol=1e-9):
            after = tallied(self.tallies, self._with(name, value))
            self._enter(name, after, adopted=True, note="; threshold and size were chosen together")
            return
        tried = [
            tallied(self.tallies, self._with(name, other))
            for other in others
            if not np.isclose(other, value, rtol=0, atol=1e-9)
        ]
        self._enter(name, self._best(tried), adopted=False)

    def attempt(self, name: str, values: Sequence[Any], obstacle: str = "") -> None:
        """Try values of a step, nearest to the present one first; adopt one where it helps."""
        if not values:
            return
        points = [self._with(name, value) for value in values]
        cases, labels = list(self.patients), self.tallies.labels
        tried = outcomes(self.table, self.config, points, cases, labels)
        eligible = [self.present, *(one for one in tried if self._allowed(one))]
        chosen = 0
        if not obstacle:
            chosen = nearest_as_good(np.array([self._values(o) for o in eligible]), self._owners())
        after = eligible[chosen] if chosen else self._best(tried)
        self._enter(name, after, adopted=chosen > 0, obstacle=obstacle)

    def _with(self, name: str, value: Any) -> OperatingPoint:
        return self.present.point.model_copy(update={name: value})

    def _values(self, outcome: Outcome) -> np.ndarray:
        """(N,) what is to be high: lesion F1, or the fewer false-positive regions the better."""
        if self.config.choose == "sensitivity":
            return -outcome.false_positives.sum(axis=1).astype(float)
        return outcome.f1.ravel()

    def _owners(self) -> list[str]:
        times = 1 if self.config.choose == "sensitivity" else len(self.tallies.labels)
        return [owner for owner in self.patients.values() for _ in range(times)]

    def _allowed(self, outcome: Outcome) -> bool:
        """Under a floor of sensitivity: whether it is kept, as far as it is reached now."""
        if self.config.choose != "sensitivity":
            return True
        now, then = (float(mean_of(o.sensitivity.ravel())) for o in (self.present, outcome))
        return then >= min(self.config.sensitivity_floor, now) - TOLERANCE

    def _best(self, tried: Sequence[Outcome]) -> Outcome | None:
        fit = [outcome for outcome in tried if self._allowed(outcome)] or list(tried)
        means = [mean_of(self._values(outcome)) for outcome in fit]
        return fit[int(np.nanargmax(means))] if fit else None

    def _enter(
        self,
        name: str,
        after: Outcome | None,
        *,
        adopted: bool,
        obstacle: str = "",
        note: str = "",
    ) -> None:
        before = self.present
        if after is None:
            return
        self.account.append(
            {
                "step": name,
                "from": getattr(before.point, name),
                "to": getattr(after.point, name),
                "adopted": adopted,
                "reason": obstacle or self._reason(before, after) + note,
                "labels": compare_outcomes([before], [after], self.patients, self.config.bootstrap),
            }
        )
        if adopted:
            self.present = after

    def _reason(self, before: Outcome, after: Outcome) -> str:
        mine, theirs = self._values(before), self._values(after)
        error = standard_error(theirs - mine, self._owners())
        what, sign = "mean lesion F1", 1
        if self.config.choose == "sensitivity":
            what, sign = "false-positive regions per scan", -1
        low, high = (sign * mean_of(values) + 0.0 for values in (mine, theirs))  # no -0
        return f"{what} {low:.3g} → {high:.3g}, difference {high - low:+.2g}, standard error " + (
            f"{error:.2g}" if np.isfinite(error) else "not known: one patient"
        )


def try_steps(
    table: pd.DataFrame,
    tallies: Tallies,
    choice: Choice,
    config: EvaluateConfig,
    configured: OperatingPoint,
    patients: Mapping[str, str],
) -> Choice:
    """Account for threshold and minimum size, then try hysteresis and the largest region only.

    Parameters
    ----------
    table : DataFrame
        Components of the validation cases.
    tallies : Tallies
        The same, counted at every threshold and minimum size.
    choice : Choice
        Of threshold and minimum size.
    config : EvaluateConfig
    configured : OperatingPoint
        Where it began; a core threshold, or the largest region only, that it has stays.
    patients : mapping of str to str
        All validation cases to their patients.

    Returns
    -------
    Choice
        With ``steps``, and with the steps that help.
    """
    point = choice.operating_point
    trial = Trial(table, config, patients, tallies, configured)
    trial.settle("threshold", point.threshold, tallies.thresholds.tolist())
    trial.settle("min_size_mm3", point.min_size_mm3, config.min_sizes_mm3)
    settled = len(trial.account)
    if "core_threshold" in config.try_steps and configured.core_threshold is None:
        above = tallies.thresholds[tallies.thresholds > point.threshold + 1e-9]
        trial.attempt("core_threshold", [round(float(core), 6) for core in above])
    if "largest_only" in config.try_steps and not configured.largest_only:
        most = int(tallies.lesions.max(initial=0))
        several = f"a case has {most} lesions of a label, of which only one could be found"
        trial.attempt("largest_only", [True], several if most > 1 else "")
    helped = [row for row in trial.account[settled:] if row["adopted"]]
    reason = choice.reason + "".join(f"; with {_step_in_words(row)}" for row in helped)
    figures = _figures(trial.present) if helped else choice.figures
    return replace(
        choice,
        operating_point=trial.present.point,
        figures={**choice.figures, **figures},
        reason=reason,
        steps=tuple(trial.account),
    )


def _step_in_words(row: Mapping[str, Any]) -> str:
    core = row["step"] == "core_threshold"
    return f"core threshold {row['to']:g}" if core else "the largest region only"


def _figures(outcome: Outcome) -> dict[str, Any]:
    """The columns of the operating curve at a point that the curve does not have."""
    total = outcome.lesions.sum()
    pooled = outcome.detected.sum() / total if total else np.nan
    wrong = outcome.false_positives.sum() / max(len(outcome.cases), 1)
    return {
        "lesion_sensitivity": defined(float(mean_of(outcome.sensitivity.ravel()))),
        "lesion_f1": defined(float(mean_of(outcome.f1.ravel()))),
        "false_positive_regions": float(wrong),
        "pooled_sensitivity": defined(float(pooled)),
    }
