"""Test-time mirroring: which mirrored copies of a scan are predicted besides the scan itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from segpipe.geometry import AXES

Mirroring = tuple[int, ...]
"""Axes of the prepared grid that are reversed; empty: the scan as it is."""


def mirrorings(axes: Sequence[str], slice_axis: int | None = None) -> list[Mirroring]:
    """Every combination of mirrored axes, the scan as it is first.

    Parameters
    ----------
    axes : sequence of {'R', 'A', 'S'}
    slice_axis : int, optional
        2-D networks: the axis across the slices. It is left out: slices are predicted one by one,
        so their order changes nothing.

    Returns
    -------
    list of tuple of int
        2 to the power of the axes that are left.

    Examples
    --------
    >>> mirrorings(["S", "R"])
    [(), (0,), (2,), (0, 2)]
    >>> mirrorings(["R", "S"], slice_axis=2)
    [(), (0,)]
    """
    chosen = [k for k, letter in enumerate(AXES) if letter in axes and k != slice_axis]
    return [
        combination
        for size in range(len(chosen) + 1)
        for combination in itertools.combinations(chosen, size)
    ]
