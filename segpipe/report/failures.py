"""Where a model fails, and how much that depends on settings and groups; in sentences.

No sentence names a case: they go into bundles, which travel without their data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segpipe.lesions.places import NOWHERE
from segpipe.metrics.detection import add_by_size
from segpipe.report.wording import count, interval_and_n, number, percent, region_name, size_range

STEP = 0.1
"""How far the threshold is moved for the sensitivity analysis."""

Rows = Sequence[Mapping[str, Any]]


def failure_analysis(rows: Rows, details: Rows, label: str) -> list[str]:
    """Which lesions are missed and where false-positive regions lie.

    Parameters
    ----------
    rows, details : sequence of mapping
        Of a score document.
    label : str

    Returns
    -------
    list of str
        Empty where no case was scored.
    """
    mine = [row for row in rows if row["label"] == label]
    scored = [row for row in mine if row["status"] == "scored"]
    if not scored:
        return []
    extra = [d for d in details if d["label"] == label and d.get("by_size")]
    bins = add_by_size([detail["by_size"] for detail in extra]) if extra else []
    sentences = [*_cases(mine, scored), *_missed(scored, bins), *_wrong(scored, bins)]
    return [*sentences, *_places(extra)]


def _cases(mine: Rows, scored: Rows) -> list[str]:
    failed = len(mine) - len(scored)
    diseased = [row for row in scored if row["reference_lesions"]]
    blind = sum(not row["detected_lesions"] for row in diseased)
    lines = []
    if failed:
        lines.append(f"{failed} of {count(len(mine), 'scan')} failed and are in no figure.")
    if diseased:
        lines.append(f"No lesion was found in {blind} of {count(len(diseased), 'scan')} with one.")
    return lines


def _missed(scored: Rows, bins: Rows) -> list[str]:
    missed = sum(row["missed_lesions"] for row in scored)
    lesions = sum(row["reference_lesions"] for row in scored)
    if not lesions:
        return ["No scan had a lesion: what is missed is not measured."]
    line = f"{missed} of {count(lesions, 'lesion')} were missed"
    lost = [one["lesions"] - one["detected"] for one in bins]
    if missed and lost:
        most = int(np.argmax(lost))
        where = size_range(bins[most]["low_mm3"], bins[most]["high_mm3"])
        line += f"; {lost[most]} of them measure {where}"
    return [f"{line}."]


def _wrong(scored: Rows, bins: Rows) -> list[str]:
    counts = sorted((row["false_positive_regions"] for row in scored), reverse=True)
    total = sum(counts)
    if not total:
        return [f"No false-positive region in {count(len(scored), 'scan')}."]
    worst = int(np.searchsorted(np.cumsum(counts), total / 2)) + 1
    lines = [
        f"Half of the {count(total, 'false-positive region')} lie in {worst} of "
        f"{count(len(scored), 'scan')}; {sum(n == 0 for n in counts)} have none."
    ]
    wrong = [one["false_positive_regions"] for one in bins]
    if any(wrong):
        most = int(np.argmax(wrong))
        where = size_range(bins[most]["low_mm3"], bins[most]["high_mm3"])
        lines.append(f"{percent(wrong[most] / sum(wrong))} of them measure {where}.")
    return lines


def _places(details: Rows) -> list[str]:
    """Share of the false-positive regions in each anatomical region, the largest first."""
    totals: dict[str, int] = {}
    for detail in details:
        for name, one in (detail.get("regions") or {}).items():
            totals[name] = totals.get(name, 0) + one["false_positive_regions"]
    total = sum(totals.values())
    if not total or set(totals) == {NOWHERE}:
        return []
    ordered = sorted(totals.items(), key=lambda item: -item[1])
    shares = [f"{region_name(name)} {percent(n / total)}" for name, n in ordered if n]
    return [f"False-positive regions by anatomy: {', '.join(shares)}."]


def robustness(
    curve: pd.DataFrame | None,
    point: tuple[float, float],
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> list[str]:
    """How figures change with the threshold, and between groups of cases.

    Parameters
    ----------
    curve : DataFrame or None
        Of :func:`segpipe.evaluate.operating_point.operating_curve`.
    point : (threshold, min_size_mm3)
    groups : mapping
        Column to value to figures, as in the summary of a score document; empty: none.

    Returns
    -------
    list of str
    """
    lines = [f"Threshold moved by ±{STEP:g}: {_threshold(curve, *point)}."]
    for column, values in groups.items():
        known = [
            (value, facts["lesion_f1"])
            for value, facts in values.items()
            if (facts.get("lesion_f1") or {}).get("mean") is not None
        ]
        if len(known) > 1:
            known.sort(key=lambda group: group[1]["mean"])
            lines.append(
                f"By {column}: mean lesion F1 from {_group(*known[0])} to {_group(*known[-1])} "
                f"over {len(known)} groups."
            )
    if not groups:
        lines.append("By group, such as site or scanner: not measured; evaluate.by names none.")
    return lines


def _group(name: str, spread: Mapping[str, Any]) -> str:
    sure = interval_and_n(spread)
    interval = "95 % interval " if " to " in sure else ""
    return f"{number(spread['mean'])} ({name}{f'; {interval}{sure}' if sure else ''})"


def _threshold(curve: pd.DataFrame | None, threshold: float, min_size_mm3: float) -> str:
    if curve is None:
        return "not measured; there is no table of components with a lesion in it"
    same = curve[np.isclose(curve["min_size_mm3"], min_size_mm3)]
    ends = [
        same[np.isclose(same["threshold"], threshold + step, atol=1e-9)] for step in (-STEP, STEP)
    ]
    if any(len(end) != 1 for end in ends):
        return (
            f"not measured; {threshold:g} at {min_size_mm3:g} mm³ is at the edge of what was "
            "counted, or not in it"
        )
    found, wrong = (
        [float(end[name].iloc[0]) for end in ends]
        for name in ("lesion_sensitivity", "false_positive_regions")
    )
    if any(map(math.isnan, found)):
        return "not measured; no scan has a lesion"
    return (
        f"lesion sensitivity from {number(found[0])} to {number(found[1])}, false-positive regions "
        f"per scan from {number(wrong[0])} to {number(wrong[1])}"
    )
