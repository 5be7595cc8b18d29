"""Gain and cost of post-processing, as cells of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segpipe.report.wording import number, p_in_words

NAMES = {
    "threshold": "Threshold",
    "min_size_mm3": "Minimum size, mm³",
    "core_threshold": "Core threshold",
    "largest_only": "Largest region only",
}
FIGURES = {
    "lesion_f1": "Lesion F1",
    "lesion_sensitivity": "Lesion sensitivity",
    "false_positive_regions": "False positives per scan",
    "dice": "Dice",
}


Lines = tuple[str, ...]
"""Of a cell: what changed, and below it interval and p, or the other half."""


def step_rows(
    steps: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str, str, Lines, list[Lines]]]:
    """One row per step and label: step, verdict with reason, label, lost and removed, figures."""
    return [
        (
            f"{NAMES[step['step']]} {_value(step['from'])} → {_value(step['to'])}",
            f"{'adopted' if step['adopted'] else 'not adopted'}: {step['reason']}",
            label,
            _cost(effect),
            [_difference(effect.get(name)) for name in FIGURES],
        )
        for step in steps
        for label, effect in step["labels"].items()
    ]


def gain_rows(
    gain: Mapping[str, Mapping[str, Any]] | None,
) -> list[tuple[str, Lines, list[Lines]]]:
    """One row per label: label, lost and removed, figures."""
    return [
        (label, _cost(effect), [_difference(effect.get(name)) for name in FIGURES])
        for label, effect in (gain or {}).items()
    ]


def _cost(effect: Mapping[str, Any]) -> Lines:
    return (
        f"{effect['lesions_lost']} lost, {effect['lesions_gained']} gained;",
        f"{effect['false_positives_removed']} removed, {effect['false_positives_added']} added",
    )


def _difference(figure: Mapping[str, Any] | None) -> Lines:
    """Before → after, and the 95 % interval of the difference with its p."""
    if figure is None or figure["difference"] is None:
        return ("not computed",)
    text = f"{number(figure['before'], 2)} → {number(figure['after'], 2)}"
    if figure["ci95"] is None:
        return (text,)
    low, high = (f"{limit:+.2f}" for limit in figure["ci95"])
    return text, f"({low} to {high})", p_in_words(figure["p"])


def _value(value: Any) -> str:
    words = {None: "none", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else f"{value:g}"
