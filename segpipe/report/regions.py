"""A picture of a case's regions, to be looked at before anything is trained."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from segpipe.report import slices
from segpipe.report.figures import STYLE
from segpipe.report.wording import region_name
from segpipe.volume import Volume

SLICES, COLUMNS = 12, 4
COLOURS = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#f0e442", "#d55e00", "#ffffff")
"""Told apart also by the colour-blind (Okabe and Ito), the last for a seventh region."""

_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
_SIDE: dict[str, Any] = {"fontsize": 7.5, "horizontalalignment": "right"}
_PAGE, _TEXT = "#12181d", "#e8edf1"
_WIDTH_IN, _DPI, _LETTERS = 10.0, 110, 150


def region_picture(
    scan: Volume, maps: Mapping[str, Volume], title: str, notes: Sequence[str]
) -> bytes:
    """Slices through the content of a scan with the border of every region.

    Borders are drawn where a map crosses 0.5, or half its range where it never does; the legend
    tells; where borders meet, the region listed first is seen. Slices lie across the coarsest axis,
    in radiological orientation.

    Parameters
    ----------
    scan : Volume
        (X, Y, Z), one channel.
    maps : mapping of str to Volume
        Region name to values in [0, 1] on the same grid.
    title : str
    notes : sequence of str
        Lines below the title, such as the quality of the registration.

    Returns
    -------
    bytes
        A PNG.
    """
    image = slices.to_ras(scan)
    arrays = {name: slices.to_ras(volume).array for name, volume in maps.items()}
    axis = slices.viewing_axis(image)
    window = slices.grey_window(image.array, np.zeros(image.shape, np.uint8))
    columns_mm, rows_mm = (image.spacing_mm[a] for a in range(3) if a != axis)
    box = slices.content_box(image.array, axis, (rows_mm, columns_mm))
    levels = {name: border_level(array) for name, array in arrays.items()}
    with mpl.rc_context({**STYLE, "axes.grid": False, "text.color": _TEXT}):
        lines = [part for note in notes for part in textwrap.wrap(note, _LETTERS)]
        figure, panels = _page((box, rows_mm / columns_mm), len(maps), title, lines)
        for panel, index in zip(panels, shown_slices(image.array, axis), strict=True):
            grey = slices.to_grey(slices.to_screen(image.array, axis, index)[box], window)
            panel.imshow(grey, cmap="gray", vmin=0, vmax=255, aspect=rows_mm / columns_mm)
            for number, (name, array) in reversed(list(enumerate(arrays.items()))):
                cut = slices.to_screen(array, axis, index)[box]
                if cut.min() < levels[name] < cut.max():
                    colour, dashes = _style(number)
                    panel.contour(
                        cut, [levels[name]], colors=colour, linestyles=[dashes], linewidths=1.1
                    )
            panel.set_title(f"{slices.PLANES[axis]} {index + 1}", fontsize=7, color=_TEXT, pad=2)
        _legend(figure, levels)
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def shown_slices(array: np.ndarray, axis: int) -> list[int]:
    """Slices spread evenly over those with anything above 8 % of the 99th percentile.

    Returns
    -------
    list of int
        :data:`SLICES` indices, rising; some twice where there are fewer slices.
    """
    others = tuple(a for a in range(3) if a != axis)
    seen = np.flatnonzero((array > 0.08 * np.percentile(array, 99)).any(axis=others))
    first, last = (seen[0], seen[-1]) if seen.size else (0, array.shape[axis] - 1)
    places = np.linspace(first, last, SLICES + 2)[1:-1]  # the very ends show little
    return [int(i) for i in places.round()]


def border_level(array: np.ndarray) -> float:
    """Value at which a region's border is drawn: 0.5, or the middle of a range without it."""
    low, high = float(array.min()), float(array.max())
    return 0.5 if low < 0.5 < high else (low + high) / 2


def _page(shape, regions: int, title: str, notes: Sequence[str]):
    """A dark page with a title, notes and a grid of empty panels."""
    box, stretch = shape
    height, width = (part.stop - part.start for part in box)
    rows = -(-SLICES // COLUMNS)
    panel_in = _WIDTH_IN / COLUMNS
    head_in = 0.42 + 0.17 * len(notes)
    foot_in = 0.12 + 0.24 * -(-max(regions, 1) // 3)
    grid_in = rows * (panel_in * height * stretch / width + 0.2)
    total_in = head_in + grid_in + foot_in
    figure = Figure(figsize=(_WIDTH_IN, total_in), dpi=_DPI, facecolor=_PAGE)
    figure.text(0.012, 1 - 0.26 / total_in, title, fontsize=11, fontweight="bold")
    figure.text(0.988, 1 - 0.26 / total_in, "the patient's left is on the right", **_SIDE)
    for line, note in enumerate(notes):
        figure.text(0.012, 1 - (0.46 + 0.17 * line) / total_in, note, fontsize=7.5)
    panels = figure.subplots(
        rows,
        COLUMNS,
        gridspec_kw={
            "left": 0.005,
            "right": 0.995,
            "bottom": foot_in / total_in,
            "top": 1 - (head_in + 0.12) / total_in,
            "wspace": 0.02,
            "hspace": 0.09,
        },
    ).ravel()
    for panel in panels:
        panel.set_axis_off()
        panel.set_facecolor(_PAGE)
    return figure, panels


def _style(number: int):
    """Colour and dashes of a region: other dashes where the colours are used up."""
    return COLOURS[number % len(COLOURS)], _DASHES[number // len(COLOURS) % len(_DASHES)]


def _legend(figure: Figure, levels: Mapping[str, float]) -> None:
    if not levels:
        figure.text(0.012, 0.02, "no region", fontsize=8)
        return
    handles = []
    for number, (name, level) in enumerate(levels.items()):
        colour, dashes = _style(number)
        text = str(region_name(name)) + ("" if level == 0.5 else f" (border at {level:.2g})")
        handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=1.6, label=text))
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=min(3, len(handles)),
        fontsize=8,
        frameon=False,
        labelcolor=_TEXT,
        borderaxespad=0.2,
    )
