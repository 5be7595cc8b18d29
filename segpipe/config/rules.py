"""Counting rules: how components are made, and when a predicted one has found a lesion.

``any``, ``iou:X`` and ``overlap:X`` are our own; the other names are presets that count as a
published evaluation does. docs/presets.md gives each in two sentences, with its source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Rule:
    """A counting rule.

    Parameters
    ----------
    kind : {'any', 'iou', 'overlap', 'greedy', 'touch', 'cover'}
        any: one common voxel, many to many. iou: intersection over union of the two; overlap:
        intersection over the predicted component; both one to one, as many pairs as possible.
        greedy: intersection over union, one to one, the highest first. touch: the component
        reaches into the dilated lesion, many to many. cover: the lesion is covered enough, by
        components that lie inside it enough (:mod:`segpipe.lesions.covering`).
    minimum : float
        Smallest ratio that counts, for ``iou``, ``overlap`` and ``greedy``.
    connectivity : {6, 18, 26}
        Unless the settings say otherwise.
    dilation_voxels : int
        Lesions whose masks meet when both are grown by so many steps (18 neighbours each) are
        one lesion.
    lesion_above_mm3, region_above_mm3 : float
        Lesions and predicted components of at most this size do not count.
    small_ignored : bool
        Whether a component that found only lesions that do not count is ignored; else it is a
        false positive.
    """

    kind: Literal["any", "iou", "overlap", "greedy", "touch", "cover"]
    minimum: float = 0.0
    connectivity: Literal[6, 18, 26] = 26
    dilation_voxels: int = 0
    lesion_above_mm3: float = 0.0
    region_above_mm3: float = 0.0
    small_ignored: bool = True


RULES: Mapping[str, Rule] = {
    "any": Rule("any"),
    "panoptic": Rule("greedy", 0.5),
    "autopet": Rule("any", connectivity=18),
    "brats23": Rule("touch", dilation_voxels=3, lesion_above_mm3=50.0),
    "brats23-met": Rule("touch", dilation_voxels=1, lesion_above_mm3=2.0),
    "msseg": Rule(
        "cover", connectivity=6, lesion_above_mm3=3.0, region_above_mm3=3.0, small_ignored=False
    ),
}
"""Rules by name."""

_RATIO = re.compile(r"(iou|overlap):(\d*\.?\d+)")


def parse_rule(text: str) -> Rule:
    """The rule of a name, or of ``iou:X`` or ``overlap:X`` with X above 0 and at most 1.

    Raises
    ------
    ValueError
        If it is none of them.

    Examples
    --------
    >>> parse_rule("iou:0.5") == Rule("iou", 0.5)
    True
    """
    if text in RULES:
        return RULES[text]
    found = _RATIO.fullmatch(text)
    if found and 0 < float(found[2]) <= 1:
        return Rule("iou" if found[1] == "iou" else "overlap", float(found[2]))
    raise ValueError(
        f"expected one of {', '.join(RULES)}, or iou:X or overlap:X with X above 0 and at most 1, "
        "such as iou:0.5"
    )


def known_rule(text: str) -> str:
    """The same text; for validators.

    Raises
    ------
    ValueError
        As :func:`parse_rule` does.
    """
    parse_rule(text)
    return text


def fill_from_rule(values: Any) -> Any:
    """Settings with the connectivity of their rule, unless they state one: for validators.

    Parameters
    ----------
    values : dict
        With ``rule``; ``connectivity`` is added where missing or None. What is no dict, or names
        no known rule, is returned without it: validation will say so.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("rule"), str):
        return values
    stated = {name: v for name, v in values.items() if name != "connectivity" or v is not None}
    try:
        rule = parse_rule(values["rule"])
    except ValueError:
        return stated
    return {"connectivity": rule.connectivity, **stated}
