"""Borders of masks as SVG paths along voxel edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Outline:
    """The border of a component as an SVG path in mm, along voxel edges.

    ``kind`` decides its colour: ``chosen`` and ``other`` in patient reports; ``hit``, ``false``
    and ``missed`` where a reference is known; ``reference`` and ``region-1`` to ``region-6`` in
    overlays of prepared cases.
    """

    path: str
    component: int
    kind: str


def outline_path(
    mask: np.ndarray,
    spacing_mm: tuple[float, float],
    *,
    at_edges: bool = True,
    dashed: bool = False,
) -> str:
    """The border of a 2-D mask as an SVG path along voxel edges, in mm.

    Parameters
    ----------
    mask : (rows, columns) bool ndarray
    spacing_mm : (float, float)
        Height and width of a pixel.
    at_edges : bool
        Whether the mask ends where the picture ends. False draws no line there.
    dashed : bool
        Every other 6 pixels only. Dashes of SVG would begin anew at every corner.

    Examples
    --------
    >>> outline_path(np.ones((1, 1), bool), (1.0, 2.0))
    'M0 0H2M0 1H2M0 0V1M2 0V1'
    """
    padded = np.pad(mask, 1, mode="constant" if at_edges else "edge").astype(np.int8)
    height, width = spacing_mm
    level, upright = np.diff(padded, axis=0)[:, 1:-1] != 0, np.diff(padded, axis=1)[1:-1] != 0
    if dashed:
        level, upright = (edges & _every_other(edges.shape) for edges in (level, upright))
    moves = []
    for y, first, last in _runs(level):
        moves.append(f"M{first * width:.5g} {y * height:.5g}H{last * width:.5g}")
    for x, first, last in _runs(upright.T):
        moves.append(f"M{x * width:.5g} {first * height:.5g}V{last * height:.5g}")
    return "".join(moves)


def _every_other(shape: tuple[int, ...]) -> np.ndarray:
    """A chessboard of fields of 6 × 6."""
    rows, columns = np.indices(shape) // 6
    return (rows + columns) % 2 == 0


def _runs(lines: np.ndarray) -> list[tuple[int, int, int]]:
    """(row, first, end) of every run of True along the rows of a 2-D array."""
    steps = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, first = np.nonzero(steps == 1)
    last = np.nonzero(steps == -1)[1]
    return [(int(r), int(f), int(e)) for r, f, e in zip(rows, first, last, strict=True)]
