"""Two runs on the same cases, as a page: what differs, how surely, in which lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from segpipe.lesions.places import NOWHERE
from segpipe.report import comparison_figures as figures
from segpipe.report.cohort_label import FIGURES
from segpipe.report.figures import Chart
from segpipe.report.page import render
from segpipe.report.wording import (
    limits,
    number,
    p_in_words,
    point_in_words,
    region_name,
    size_range,
)

HEADLINES = ("false_positive_regions", "lesion_sensitivity", "lesion_f1", "dice")
"""Figures that are told in words and drawn case by case."""

MOST_LESIONS = 15
MOST_CASES = 10

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ComparisonInputs:
    """All that a comparison tells.

    Parameters
    ----------
    reported : str
        Date, as it is to be printed.
    document : mapping
        What ``segpipe compare --json`` writes.
    rows_a, rows_b : sequence of mapping
        Rows of the two runs.
    """

    reported: str
    document: Mapping[str, Any]
    rows_a: Rows
    rows_b: Rows


@dataclass(frozen=True)
class GroupRow:
    """A group of lesions, or of false-positive regions, ready to print."""

    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class LabelComparison:
    """One label's part, ready to print.

    Parameters
    ----------
    name : str
    pairs, unpaired, patients : int
    headlines : list of str
    table : list of (title, cases, a, b, difference, interval, p, verdict)
    charts : list of (title, caption, Chart or None)
    lesions : list of GroupRow or None
        All, by size and by region; None without tables of components.
    differing : list of tuple of str
        The largest lesions that only one run found; their regions are empty unless both runs had
        regions.
    differing_total : int
    false_by_size, false_by_region : list of GroupRow
    changed : list of (case, a, b, difference)
        Cases whose false-positive regions differ most.
    """

    name: str
    pairs: int
    unpaired: int
    patients: int
    headlines: list[str]
    table: list[tuple[str, str, str, str, str, str, str, str]]
    charts: list[tuple[str, str, Chart | None]]
    lesions: list[GroupRow] | None
    differing: list[tuple[str, str, str, str, str]]
    differing_total: int
    false_by_size: list[GroupRow]
    false_by_region: list[GroupRow]
    changed: list[tuple[str, str, str, str]]


def comparison_report(inputs: ComparisonInputs) -> str:
    """The comparison as one self-contained HTML page.

    Parameters
    ----------
    inputs : ComparisonInputs

    Returns
    -------
    str
    """
    return render(
        "comparison.html.j2",
        {"report": inputs, "title": "Comparison of two runs", **comparison_view(inputs)},
    )


def comparison_view(inputs: ComparisonInputs) -> dict[str, Any]:
    """What the macros of ``comparison_parts.html.j2`` print.

    Returns
    -------
    dict
        ``compared``: a :class:`LabelComparison` for every label; ``runs``: heading, name and
        operating points of both; ``same_points``: whether these are the same; ``few``: lesions that
        a table names at the most.
    """
    document = inputs.document
    points = document["points"]
    return {
        "compared": [
            _label_view(
                label,
                block,
                document["lesions"][label],
                document["false_positives"][label],
                _paired(inputs.rows_a, inputs.rows_b, label),
            )
            for label, block in document["labels"].items()
        ],
        "runs": [
            (f"Run {run.upper()}", _short(document[run]), _points(points[run]))
            for run in ("a", "b")
        ],
        "same_points": points["a"] == points["b"],
        "few": MOST_LESIONS,
    }


def _paired(rows_a: Rows, rows_b: Rows, label: str) -> dict[str, tuple[Mapping, Mapping]]:
    first, second = (
        {r["case"]: r for r in rows if r["label"] == label and r["status"] == "scored"}
        for rows in (rows_a, rows_b)
    )
    return {case: (first[case], second[case]) for case in first if case in second}


def _label_view(
    label: str,
    block: Mapping[str, Any],
    lesions: Mapping[str, Any] | None,
    wrong: Mapping[str, Any],
    pairs: Mapping[str, tuple[Mapping, Mapping]],
) -> LabelComparison:
    shown = {n: block[n] for n in FIGURES if (block.get(n) or {}).get("difference") is not None}
    differing = lesions["differing"] if lesions else []
    return LabelComparison(
        name=label,
        pairs=block["pairs"],
        unpaired=block["unpaired"],
        patients=block["patients"],
        headlines=[
            _headline(name, block[name])
            for name in HEADLINES
            if name in shown or (block.get(name) or {}).get("no_verdict")
        ],
        table=[_row(name, figure) for name, figure in shown.items()],
        charts=figures.charts(shown, pairs, HEADLINES),
        lesions=None if lesions is None else _lesion_rows(lesions),
        differing=[_lesion(row, bool(wrong["by_region"])) for row in differing[:MOST_LESIONS]],
        differing_total=len(differing),
        false_by_size=[_false_row(group) for group in wrong["by_size"]],
        false_by_region=[_false_row(group) for group in wrong["by_region"]],
        changed=_changed(pairs),
    )


def _signed(value: float | None, digits: int) -> str:
    """A difference with its sign; one that is not 0 never reads as 0."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text[0] not in "<>" else text


def _headline(name: str, figure: Mapping[str, Any]) -> str:
    title, digits = FIGURES[name]
    difference = _signed(figure["difference"], digits)
    if figure["difference"] is None:
        return f"{title}: {difference}. No verdict: {figure['no_verdict']}."
    known = limits(figure["ci95"], digits)
    told = [f"95 % interval {known}" if known else "no interval", p_in_words(figure["p"])]
    verdict = {
        "a": "In this, run A is better.",
        "b": "In this, run B is better.",
        None: f"No verdict: {figure['no_verdict']}.",
    }[figure["better"]]
    return f"{title}: {difference} ({', '.join(told)}). {verdict}"


def _row(name: str, figure: Mapping[str, Any]) -> tuple[str, str, str, str, str, str, str, str]:
    title, digits = FIGURES[name]
    return (
        title,
        str(figure["cases"]),
        number(figure["mean_a"], digits),
        number(figure["mean_b"], digits),
        _signed(figure["difference"], digits),
        limits(figure["ci95"], digits) or "not computed",
        number(figure["p"], 3),
        {"a": "A", "b": "B", None: _undecided(figure["no_verdict"])}[figure["better"]],
    )


def _undecided(why: str | None) -> str:
    return "not judged" if why is None else f"no verdict: {why}"


def _group_name(group: Mapping[str, Any]) -> str:
    if "low_mm3" in group:
        return size_range(group["low_mm3"], group["high_mm3"])
    return region_name(group["name"]) or ""


def _lesion_rows(lesions: Mapping[str, Any]) -> list[GroupRow]:
    groups = [*lesions["all"], *lesions["by_size"]]
    if [group["name"] for group in lesions["by_region"]] != [NOWHERE]:
        groups += lesions["by_region"]
    return [
        GroupRow(
            "all lesions" if group.get("name") == "all" else _group_name(group),
            (
                *(str(group[k]) for k in ("lesions", "both", "only_a", "only_b", "neither")),
                _signed(group["difference"], 3),
                limits(group["ci95"], 3) or "not computed",
                number(group["p"], 3),
            ),
        )
        for group in groups
    ]


def _lesion(row: Mapping[str, Any], with_region: bool) -> tuple[str, str, str, str, str]:
    return (
        row["case"],
        str(row["component"]),
        (region_name(row["region"]) or "") if with_region else "",
        number(row["size_mm3"], 0),
        "A" if row["outcome"] == "only_a" else "B",
    )


def _false_row(group: Mapping[str, Any]) -> GroupRow:
    return GroupRow(
        _group_name(group),
        (
            number(group["mean_a"]),
            number(group["mean_b"]),
            _signed(group["difference"], 2),
            limits(group["ci95"]) or "not computed",
            number(group["p"], 3),
        ),
    )


def _changed(
    pairs: Mapping[str, tuple[Mapping, Mapping]],
) -> list[tuple[str, str, str, str]]:
    counts = {
        case: (a["false_positive_regions"], b["false_positive_regions"])
        for case, (a, b) in pairs.items()
    }
    most = sorted(counts, key=lambda case: (-abs(counts[case][1] - counts[case][0]), case))
    return [
        (case, str(a), str(b), f"{b - a:+d}")
        for case, (a, b) in ((case, counts[case]) for case in most[:MOST_CASES])
        if a != b
    ]


def _short(name: str) -> str:
    """The end of a path: the folders above can name people."""
    return "/".join(PurePath(name).parts[-4:])


def _points(points: Sequence[Mapping[str, Any]]) -> str:
    """The operating points of a run, in words."""
    texts = [
        point_in_words({**point, "min_size_mm3": point["removal_size_mm3"]}) for point in points
    ]
    if len(texts) > 1:
        return f"{len(texts)} operating points among the folds: {'; '.join(texts)}"
    return texts[0] if texts else "operating point not recorded"
