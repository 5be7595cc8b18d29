"""Letters and numbers on a picture, and where they hide nothing and each other least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_WIDTH, _HEIGHT = 0.7, 0.75
"""Of a bold digit or capital, as shares of the size of its font."""
_CLEAR = 0.4
"""Room between two texts, likewise: closer they read as one."""


@dataclass(frozen=True)
class Lettering:
    """A text on a picture; all places in mm from the top left corner.

    Parameters
    ----------
    text : str
    x_mm, y_mm : float
        Middle of its baseline.
    size_mm : float
        Of the font.
    kind : str
        Decides its colour: ``mark`` and ``faint``; or the kind of the outline that it names.
    """

    text: str
    x_mm: float
    y_mm: float
    size_mm: float
    kind: str = "mark"

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, roughly."""
        half = _WIDTH * self.size_mm * len(self.text) / 2
        top = self.y_mm - _HEIGHT * self.size_mm
        return self.x_mm - half, top, self.x_mm + half, self.y_mm


def place_numbers(
    components: np.ndarray,
    kinds: Mapping[int, str],
    spacing_mm: tuple[float, float],
    *,
    size_mm: float,
    marks: Sequence[Lettering],
) -> tuple[Lettering, ...]:
    """The number of each component beside its outline, at the corner where it hides least.

    Right of the top if that is free, else left of it, or beside the bottom: away from marks and
    from numbers that stand already, and off the lesions. The chosen lesion's is placed first, then
    those of smaller numbers.

    Parameters
    ----------
    components : (rows, columns) int ndarray
        Of one slice.
    kinds : mapping of int to str
        Kinds of those that get their number; the others get none.
    spacing_mm : (float, float)
        Height and width of a pixel.
    size_mm : float
        Of the font.
    marks : sequence of Lettering
        What is there already.

    Returns
    -------
    tuple of Lettering
        The chosen one's last, to be drawn over the others.
    """
    placed: list[Lettering] = []
    for component in sorted(kinds, key=lambda number: (kinds[number] != "chosen", number)):
        mask = components == component
        if mask.any():
            corners = _corners(str(component), mask, kinds[component], spacing_mm, size_mm)
            taken = [one.box for one in (*marks, *placed)]
            placed.append(min(corners, key=lambda one: _hidden(one, taken, components, spacing_mm)))
    return tuple(placed[::-1])


def _corners(
    text: str, mask: np.ndarray, kind: str, spacing_mm: tuple[float, float], size_mm: float
) -> list[Lettering]:
    """Places beside the ends of the top and of the bottom row, moved into the picture."""
    height_mm, width_mm = (n * s for n, s in zip(mask.shape, spacing_mm, strict=True))
    half, tall, gap = _WIDTH * size_mm * len(text) / 2, _HEIGHT * size_mm, 0.2 * size_mm
    rows = np.flatnonzero(mask.any(axis=1))
    found = []
    for row, baseline in (
        (rows[0], rows[0] * spacing_mm[0]),
        (rows[-1], (rows[-1] + 1) * spacing_mm[0] + tall),
    ):
        columns = np.flatnonzero(mask[row])
        for x in (
            (columns[-1] + 1) * spacing_mm[1] + gap + half,
            columns[0] * spacing_mm[1] - gap - half,
        ):
            inside = np.clip(x, half, max(half, width_mm - half))
            above = np.clip(baseline, tall, max(tall, height_mm))
            found.append(Lettering(text, float(inside), float(above), size_mm, kind))
    return found


def _hidden(one: Lettering, taken, components: np.ndarray, spacing_mm) -> float:
    """mm² of other lettering, which counts most, and of components, under or next to a text."""
    left, top, right, bottom = one.box
    clear = _CLEAR * one.size_mm
    letters = sum(
        max(0.0, min(right, r) - max(left, x) + clear)
        * max(0.0, min(bottom, b) - max(top, y) + clear)
        for x, y, r, b in taken
    )
    rows = slice(round(top / spacing_mm[0]), round(bottom / spacing_mm[0]))
    columns = slice(round(left / spacing_mm[1]), round(right / spacing_mm[1]))
    under = np.count_nonzero(components[rows, columns]) * spacing_mm[0] * spacing_mm[1]
    return 4 * letters + under
