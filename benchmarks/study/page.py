"""The tables and the figure of the study, where its page has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import fill_tables
from benchmarks.study import jobs
from benchmarks.study.analyse import GRID, SHOWN, SWEEPS, analyse, envelope, load_curves
from benchmarks.study.jobs import ARMS, CONTROL, DATASETS
from benchmarks.study.shifted import SHIFT_MM, analyse_shifted, is_within
from segpipe.report.validation import caution

MANY_AT_THE_EDGE = 1 / 3
PAGE = Path(__file__).parents[2] / "docs" / "study-false-positives.md"

_COLUMNS = {
    "ratio": ("ratio to plain", ".2f"),
    "dice_difference": ("difference of Dice", "+.3f"),
    "range_ratio": ("ratio over the range", ".2f"),
    "range_mean_ratio": ("mean of the ratios", ".2f"),
    "range_dice_difference": ("difference of Dice over the range", "+.3f"),
}
"""Figures beside the control's: titles and forms."""


def report(page: Path = PAGE) -> None:
    """Write the figures as JSON and the pictures; put the tables between the marks of the page."""
    found = _analysed("", analyse)
    moved = _analysed("-shifted", analyse_shifted)
    for dataset in found:
        _picture(dataset, page.parent / "img")
    parts = [section(dataset, own) for dataset, own in found.items()]
    if moved:
        parts += [f"### Regions moved by {SHIFT_MM:g} mm", "\n".join(moved_table(moved))]
    fill_tables(page, "study", "\n\n".join(parts) or "No seed is whole yet.")


def _analysed(
    kind: str, analysed: Callable[[str, str], dict[str, Any]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Every sweep of each dataset with a whole seed, also as JSON beside the results."""
    every = {dataset: {sweep: analysed(dataset, sweep) for sweep in SWEEPS} for dataset in DATASETS}
    found = {dataset: own for dataset, own in every.items() if all(own.values())}
    for dataset, own in found.items():
        path = jobs.RESULTS / f"{dataset}{kind}.json"
        path.write_text(json.dumps(own, indent=1, allow_nan=False))
    return found


def section(dataset: str, found: dict[str, dict[str, Any]]) -> str:
    """A dataset: its picture, and a table for each sweep."""
    parts = [
        f"### `{dataset}`, {_named(next(iter(found.values()))['seeds'])}",
        f"![{dataset}: lesion sensitivity by false-positive regions per scan, one curve per arm]"
        f"(img/study-{dataset}.png)",
    ]
    if few := caution(next(iter(found.values()))["cases"]):
        parts.append(few)
    for sweep, own in found.items():
        control = own["arms"][CONTROL]
        words = SWEEPS[sweep][0]
        parts.append(
            f"{words[0].upper()}{words[1:]}; best F1 of the control at a sensitivity of "
            f"{control['sensitivity']:.2f}, which reaches {control['reach']:.2f}:"
        )
        parts.append("\n".join(table(own)))
    return "\n\n".join(parts)


def table(found: dict[str, Any]) -> list[str]:
    """The arms as a table of Markdown.

    A star where the best lies at the end of the sweep: of a reading, or of more than a third of
    those in the range, of the arm or of the control.
    """
    titles = (
        *("arm", "FP regions per scan", *(f"{title} (95 %)" for title, _ in _COLUMNS.values())),
        "range up to",
        f"regions, and Dice, at {', '.join(f'{s:g}' for s in SHOWN)}",
    )
    rows = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for arm, figures in found["arms"].items():
        star, *stars = ("*" * edge for edge in figures["at_edge"])
        shown = [
            "–" if read is None else f"{read[0]:.1f}{mark} ({read[1]:.2f})"
            for read, mark in zip(figures["at_sensitivities"], stars, strict=True)
        ]
        cells = [arm, _number(figures["false_positive_regions"], ".1f") + star]
        if arm == CONTROL:
            cells += ["1", "", "1", "1", "", ""]
        else:
            cells += [_with_interval(figures, name, form) for name, (_, form) in _COLUMNS.items()]
            often = figures["range_edge_share"] > MANY_AT_THE_EDGE
            cells.append(f"{figures['common']:.2f}{'*' * often}")
        rows.append(f"| {' | '.join([*cells, ', '.join(shown)])} |")
    return rows


def moved_table(found: dict[str, dict[str, Any]]) -> list[str]:
    """What regions at a wrong place cost; bold where that is more than is allowed."""
    rows = [
        "| | change of lesion sensitivity at equal false-positive regions (95 %) "
        "| at threshold 0.5 |",
        "|---|---|---|",
    ]
    for dataset, sweeps in found.items():
        for sweep, own in sweeps.items():
            change = f"{own['at_equal_false_positives']:+.3f}"
            low, high = own["at_equal_false_positives_ci95"]
            cells = [
                f"`{dataset}`, {SWEEPS[sweep][0]}",
                f"{change if is_within(own) else f'**{change}**'} ({low:+.3f} to {high:+.3f})",
                f"{own['at_threshold']:+.3f}",
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def _named(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _number(value: float | None, form: str, missing: str = "–") -> str:
    return missing if value is None else f"{value:{form}}"


def _with_interval(figures: dict[str, Any], name: str, form: str) -> str:
    beyond = "–" if "dice" in name else "∞"
    low, high = (_number(end, form, beyond) for end in figures[f"{name}_ci95"])
    return f"{_number(figures[name], form)} ({low} to {high})"


def _picture(dataset: str, folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves, cases, seeds = load_curves(dataset, sweep="one threshold")
    figure, axes = pyplot.subplots(figsize=(8.4, 4.2), layout="constrained")
    styles = ("-", "-", "-", "--", "--", ":", (0, (5, 1, 1, 1, 1, 1)), "-.", "-.")
    colours = (
        *("#000000", "#d55e00", "#009e73", "#009e73", "#0072b2", "#cc79a7", "#e69f00"),
        *("#56b4e9", "#777777"),
    )
    looks = dict(zip(ARMS, zip(styles, colours, strict=True), strict=True))
    for arm, own in curves.items():
        style, colour = looks[arm]
        regions = envelope(own, np.ones(len(cases))).regions
        axes.plot(regions, GRID, linestyle=style, color=colour, label=arm, linewidth=1.8)
    axes.set(
        xlabel="false-positive regions per scan (linear below 1, logarithmic above)",
        ylabel="lesion sensitivity",
        xscale="symlog",
        xlim=(0, None),
        ylim=(0, 1),
        title=f"{dataset}: {len(cases)} held-out cases, {_named(seeds)}, one threshold",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    figure.legend(frameon=False, loc="outside center right")  # type: ignore[call-overload]
    figure.savefig(folder / f"study-{dataset}.png", dpi=110)
    pyplot.close(figure)
