"""Charts of two runs on the same cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from segpipe.evaluate.compare import HIGHER_IS_BETTER, LOWER_IS_BETTER
from segpipe.report.cohort_label import FIGURES
from segpipe.report.figures import BLUE, GREY, INK, ORANGE, Chart, draw_chart
from segpipe.report.wording import count, number


def charts(
    shown: Mapping[str, Mapping[str, Any]],
    pairs: Mapping[str, tuple[Mapping, Mapping]],
    case_by_case: Sequence[str],
) -> list[tuple[str, str, Chart | None]]:
    """Charts of a label: title, caption, drawing.

    Parameters
    ----------
    shown : mapping
        Figure to its differences, as the document of a comparison holds them.
    pairs : mapping
        Case to its rows in both runs.
    case_by_case : sequence of str
        Figures that are drawn with a mark for each case.
    """
    shares = [name for name in shown if name in HIGHER_IS_BETTER]
    lines = "Dots: mean difference. Lines: 95 % bootstrap intervals over patients."
    drawn: list[tuple[str, str, Chart | None]] = [
        (
            "Differences of the scores",
            f"{lines} To the right of 0, B is better.",
            differences(
                [FIGURES[name][0] for name in shares],
                [shown[name]["difference"] for name in shares],
                [shown[name]["ci95"] for name in shares],
                "score",
            ),
        )
    ]
    for name in case_by_case:
        values = [(a.get(name), b.get(name)) for a, b in pairs.values()]
        known = [(float(a), float(b)) for a, b in values if a is not None and b is not None]
        lower = name in LOWER_IS_BETTER
        where = "Below" if lower else "Above"
        drawn.append(
            (
                f"{FIGURES[name][0]}, case by case",
                f"Each mark is a case. {where} the dashed line B is better (blue circles); orange "
                "squares: A is better; grey diamonds: equal.",
                scatter(known, FIGURES[name][0], lower_is_better=lower),
            )
        )
    return drawn


def differences(
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[Sequence[float] | None],
    unit: str,
) -> Chart | None:
    """Differences B - A with their intervals; None where there is none.

    Parameters
    ----------
    names : sequence of str
    values : sequence of float
    intervals : sequence of (low, high) or None
    unit : str
        Of the axis.
    """
    if not names:
        return None

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, lw=1)
        for place, (value, limits) in enumerate(zip(values, intervals, strict=True)):
            if limits:
                axes.plot(limits, (place, place), color=BLUE, lw=2, solid_capstyle="butt")
            axes.plot(value, place, "o", color=BLUE, ms=7)
        axes.set_yticks(range(len(names)), list(names))
        axes.set(xlabel=f"B − A ({unit})", ylim=(len(names) - 0.5, -0.5))

    parts = [
        f"{name}: {number(value)}"
        + (f" ({number(limits[0])} to {number(limits[1])})" if limits else ", no interval")
        for name, value, limits in zip(names, values, intervals, strict=True)
    ]
    alt = f"Mean differences B minus A with 95 % intervals. {'; '.join(parts)}."
    return draw_chart(draw, alt, max(1.5, 0.8 + 0.36 * len(names)))


def scatter(
    pairs: Sequence[tuple[float, float]], title: str, *, lower_is_better: bool
) -> Chart | None:
    """A dot per case, A against B, with the line of no difference.

    Parameters
    ----------
    pairs : sequence of (a, b)
    title : str
        Of the figure that both axes show.
    lower_is_better : bool

    Returns
    -------
    Chart or None
        None without a pair.
    """
    if not pairs:
        return None
    first, second = np.array(pairs, float).T
    better = second < first if lower_is_better else second > first
    same = second == first
    high = max(float(first.max()), float(second.max()), 0.0)
    low = min(float(first.min()), float(second.min()), 0.0)
    high = high if high > low else 1.0

    def draw(axes: Axes) -> None:
        room = 0.04 * (high - low)
        ends = (low - room, high + room)
        axes.plot(ends, ends, color=GREY, lw=1, ls="--")
        for chosen, colour, marker in (
            (better, BLUE, "o"),
            (~better & ~same, ORANGE, "s"),
            (same, GREY, "D"),
        ):
            axes.plot(
                first[chosen], second[chosen], marker, color=colour, ms=6, mec="white", mew=0.6
            )
        axes.set(xlim=ends, ylim=ends, xlabel="Run A", ylabel="Run B")
        axes.set_aspect("equal")

    alt = (
        f"{title}, run B against run A, {count(len(pairs), 'case')}: better in B in "
        f"{int(better.sum())}, equal in {int(same.sum())}, better in A in "
        f"{int((~better & ~same).sum())}."
    )
    return draw_chart(draw, alt, 3.6)
