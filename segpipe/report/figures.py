"""Charts of the cohort report as SVG, each with its content in words."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from segpipe.metrics.detection import share_interval
from segpipe.report.wording import SPACE, count, number, percent, size_range, volume

BLUE, ORANGE, INK, GREY = "#0072b2", "#d55e00", "#17222c", "#4c5a66"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "segpipe",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa7b1",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.grid": True,
    "grid.color": "#e4e9ed",
    "axes.axisbelow": True,
}
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Chart:
    """An SVG as a data address, and what it shows."""

    image: str
    alt: str


def draw_chart(draw: Callable[[Axes], None], alt: str, height: float = 3.1) -> Chart:
    """Draw on axes of 4.9 inches by ``height``; ``alt`` says in words what is to be seen."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.9, height), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue().replace("'DejaVu Sans'", FONTS)
    code = base64.b64encode(svg[svg.index("<svg") :].encode()).decode()
    return Chart(f"data:image/svg+xml;base64,{code}", alt)


_LABEL_PT = (24.0, 10.0)
"""Width and height of a threshold's label in points."""


def _apart(at: np.ndarray, size: tuple[float, float]) -> list[int]:
    """Indices of labels that do not overlap: in order, each free of those before it."""
    kept: list[int] = []
    for i, point in enumerate(at):
        if all((np.abs(point - at[k]) >= size).any() for k in kept):
            kept.append(i)
    return kept


def froc(
    points: Sequence[tuple[float, float, float]], chosen: tuple[float, float, float] | None
) -> Chart | None:
    """Lesion sensitivity against false-positive regions per scan.

    Parameters
    ----------
    points : sequence of (threshold, false-positive regions per scan, lesion sensitivity)
    chosen : the same, or None
        The operating point.

    Returns
    -------
    Chart or None
        None where no sensitivity is defined.
    """
    known = sorted(p for p in points if math.isfinite(p[2]))
    if not known:
        return None
    thresholds, wrong, sensitivity = np.array(known).T

    def draw(axes: Axes) -> None:
        axes.plot(wrong, sensitivity, "-o", color=BLUE, ms=3.5, lw=1.4)
        if chosen is not None:
            axes.plot(chosen[1], chosen[2], "D", color=ORANGE, ms=9, mec="white", mew=1.2)
            axes.annotate(
                f"operating point, {chosen[0]:g}",
                (chosen[1], chosen[2]),
                (-9 if chosen[1] > wrong.max() / 2 else 9, 7),
                textcoords="offset points",
                ha="right" if chosen[1] > wrong.max() / 2 else "left",
                color="#a84a00",
                fontweight="bold",
            )
        axes.set(ylim=(0, 1.02), xlabel="False-positive regions per scan")
        axes.set_xlim(left=0)
        axes.set_ylabel("Lesion sensitivity")
        at = axes.transData.transform(np.column_stack((wrong, sensitivity)))
        for i in _apart(at * 72 / axes.figure.dpi, _LABEL_PT):
            axes.annotate(
                f"{thresholds[i]:g}",
                (wrong[i], sensitivity[i]),
                (4, -9),
                textcoords="offset points",
                fontsize=7.5,
                color=GREY,
            )

    alt = (
        f"Free-response curve over {len(known)} thresholds: from "
        f"{number(sensitivity[-1])} sensitivity with {number(wrong[-1], 1)} false-positive regions "
        f"per scan at threshold {thresholds[-1]:g} to {number(sensitivity[0])} with "
        f"{number(wrong[0], 1)} at threshold {thresholds[0]:g}."
    )
    if chosen is not None:
        alt += (
            f" The operating point, threshold {chosen[0]:g}, has {number(chosen[2])} sensitivity "
            f"with {number(chosen[1], 1)} false-positive regions per scan."
        )
    return draw_chart(draw, alt)


def sensitivity_by_size(bins: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Lesion sensitivity in each bin of size with its interval; None without lesions."""
    rows = [(b, _interval(b)) for b in bins]
    if not any(limits for _, limits in rows):
        return None

    def draw(axes: Axes) -> None:
        for place, (cell, limits) in enumerate(rows):
            if limits is None:
                axes.text(
                    0.5, place, "no lesion of this size", va="center", ha="center", color=GREY
                )
                continue
            axes.plot(limits, (place, place), color=BLUE, lw=2, solid_capstyle="butt")
            axes.plot(cell["detected"] / cell["lesions"], place, "o", color=BLUE, ms=7)
        axes.set_yticks(range(len(rows)), [_bin(cell) for cell, _ in rows])
        axes.set(xlim=(0, 1.02), xlabel="Lesion sensitivity", ylim=(len(rows) - 0.5, -0.5))

    parts = [
        f"{size_range(c['low_mm3'], c['high_mm3'])}: "
        + (f"{c['detected']} of {c['lesions']}" if c["lesions"] else "no lesion")
        for c in bins
    ]
    return draw_chart(draw, f"Lesions found by size. {'; '.join(parts)}.")


def _interval(cell: Mapping[str, Any]) -> tuple[float, float] | None:
    return share_interval(cell["detected"], cell["lesions"], cell.get("sensitivity_ci95"))


def _bin(cell: Mapping[str, Any]) -> str:
    return size_range(cell["low_mm3"], cell["high_mm3"]).replace("\N{NO-BREAK SPACE}", " ")


def false_positives(
    names: Sequence[str],
    means: Sequence[float | None],
    intervals: Sequence[Sequence[float] | None],
) -> Chart | None:
    """False-positive regions per scan, a bar for each size or anatomical region."""
    if not any(mean is not None for mean in means):
        return None

    def draw(axes: Axes) -> None:
        for place, (mean, limits) in enumerate(zip(means, intervals, strict=True)):
            if mean is None:
                axes.text(0, place, " not computed", va="center", color=GREY)
                continue
            axes.barh(place, mean, height=0.6, color=ORANGE)
            if limits:
                axes.plot(limits, (place, place), color=INK, lw=1.2)
        labels = [name.replace("\N{NO-BREAK SPACE}", " ") for name in names]
        axes.set_yticks(range(len(names)), labels)
        axes.set(xlabel="False-positive regions per scan", ylim=(len(names) - 0.5, -0.5))
        axes.set_xlim(left=0)

    parts = [f"{n}: {number(m)}" for n, m in zip(names, means, strict=True)]
    height = max(2.0, 0.9 + 0.36 * len(names))
    return draw_chart(draw, f"Mean false-positive regions per scan. {'; '.join(parts)}.", height)


def bland_altman(pairs: Sequence[tuple[float, float]]) -> Chart | None:
    """Agreement of volumes: difference against mean, with bias and limits of agreement.

    Parameters
    ----------
    pairs : sequence of (reference_ml, prediction_ml)

    Returns
    -------
    Chart or None
        None for fewer than 3 pairs: limits of agreement would mean nothing. After Bland and
        Altman 1986, doi:10.1016/S0140-6736(86)90837-8.
    """
    if len(pairs) < 3:
        return None
    reference, prediction = np.array(pairs, float).T
    difference, middle = prediction - reference, (prediction + reference) / 2
    bias, spread = float(difference.mean()), 1.959963984540054 * float(difference.std(ddof=1))

    def draw(axes: Axes) -> None:
        lines = (
            (bias, "-", "bias"),
            (bias + spread, "--", "limit"),
            (bias - spread, "--", "limit"),
        )
        for level, style, name in lines:
            axes.axhline(level, color=ORANGE, ls=style, lw=1.2)
            axes.annotate(
                f"{name} {level:+.2f}",
                (1, level),
                (-2, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                color="#a84a00",
                fontsize=8,
            )
        axes.plot(middle, difference, "o", color=BLUE, ms=5, alpha=0.85, mec="white", mew=0.5)
        axes.set(xlabel="Mean of reference and prediction (ml)")
        axes.set_ylabel("Prediction − reference (ml)")

    alt = (
        f"Bland–Altman plot of {count(len(pairs), 'scan')}: bias {volume(bias)}, 95 % limits of "
        f"agreement {volume(bias - spread)} to {volume(bias + spread)}."
    )
    return draw_chart(draw, alt)


def share(cell: Mapping[str, Any]) -> str:
    """Lesion sensitivity in a bin of size with its interval, in words.

    Examples
    --------
    >>> share({"detected": 8, "lesions": 10}), share({"detected": 0, "lesions": 0})
    ('80\\xa0% (49 to 94)', 'not measured')
    >>> share({"detected": 8, "lesions": 10, "sensitivity_ci95": [0.3, 0.9]})
    '80\\xa0% (30 to 94)'
    """
    limits = _interval(cell)
    if limits is None:
        return "not measured"
    found = percent(cell["detected"] / cell["lesions"])
    low, high = (percent(limit).removesuffix(f"{SPACE}%") for limit in limits)
    return f"{found} ({low} to {high})"
