"""The table of components: the single source of every lesion-wise number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import pandas as pd

from segpipe.lesions.matching import Overlaps
from segpipe.lesions.view import Side, View

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))

COLUMNS = {
    "case": "str",
    "label": "str",
    "threshold": "float64",
    "side": "str",
    "component": "int64",
    "region": "str",
    "voxels": "int64",
    "size_mm3": "float64",
    "mean_probability": "float64",
    "max_probability": "float64",
    "matched": "int64",
    "overlap_voxels": "int64",
    "matched_size_mm3": "float64",
    "links": "str",
}
"""Columns and their types.

``side`` is "reference" or "prediction"; ``matched`` is the largest linked component of the other
side, 0 for none; ``links`` lists every linked one as ``component:voxels``, separated by blanks, so
that each rule and each minimum size can be applied to the table afterwards.
"""


def table_digest(table: pd.DataFrame) -> str:
    """SHA-256 over the content of a table of components, however it is stored."""
    rows = pd.util.hash_pandas_object(table, index=False).to_numpy()
    return hashlib.sha256(rows.tobytes()).hexdigest()


def component_table(views: Iterable[View]) -> pd.DataFrame:
    """Views as rows: one for each component, on both sides.

    Returns
    -------
    pandas.DataFrame
        With :data:`COLUMNS`; no component is left out for its size. Empty without components.
    """
    frames = [frame for view in views for frame in _frames(view) if len(frame)]
    if not frames:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)].astype(COLUMNS)


def read_views(table: pd.DataFrame) -> Iterator[View]:
    """Read the table back: one view per case, label and threshold that has components."""
    for key, rows in table.groupby(["case", "label", "threshold"], sort=False, dropna=False):
        case, label, threshold = cast(tuple[str, str, float], key)
        reference = rows[rows["side"] == "reference"].sort_values("component")
        prediction = rows[rows["side"] == "prediction"].sort_values("component")
        voxel_mm3 = float(rows["size_mm3"].iloc[0] / rows["voxels"].iloc[0])
        sides = _read_side(reference), _read_side(prediction)
        yield View(case, label, float(threshold), voxel_mm3, *sides, _read_links(reference))


def at_threshold(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The rows of the table at one threshold; none if the table does not have it."""
    return table[np.isclose(table["threshold"], threshold, rtol=0, atol=1e-9)]


def views_of_cases(table: pd.DataFrame, threshold: float) -> dict[str, dict[str, View]]:
    """Views at one threshold by case and label; cases without components are left out."""
    views: dict[str, dict[str, View]] = {}
    for view in read_views(at_threshold(table, threshold)):
        views.setdefault(view.case, {})[view.label] = view
    return views


def _frames(view: View) -> tuple[pd.DataFrame, pd.DataFrame]:
    pair = view.overlaps
    sides = (
        ("reference", view.reference, pair.reference, view.prediction, pair.prediction),
        ("prediction", view.prediction, pair.prediction, view.reference, pair.reference),
    )
    reference, prediction = (
        _frame(view, name, side, mine, other, theirs) for name, side, mine, other, theirs in sides
    )
    return reference, prediction


def _frame(
    view: View, name: str, side: Side, mine: np.ndarray, other: Side, theirs: np.ndarray
) -> pd.DataFrame:
    matched, shared = _largest_link(len(side.voxels), mine, theirs, view.overlaps.voxels, other)
    sizes = np.r_[0, other.voxels]
    return pd.DataFrame(
        {
            "case": view.case,
            "label": view.label,
            "threshold": view.threshold,
            "side": name,
            "component": np.arange(1, len(side.voxels) + 1),
            "region": list(side.region),
            "voxels": side.voxels,
            "size_mm3": side.voxels * view.voxel_volume_mm3,
            "mean_probability": side.mean_probability,
            "max_probability": side.max_probability,
            "matched": matched,
            "overlap_voxels": shared,
            "matched_size_mm3": sizes[matched] * view.voxel_volume_mm3,
            "links": _links(len(side.voxels), mine, theirs, view.overlaps.voxels),
        }
    )


def _largest_link(count, mine, theirs, voxels, other: Side) -> tuple[np.ndarray, np.ndarray]:
    """The largest partner of each component, the first of equals, and what they share."""
    order = np.lexsort((theirs, -other.voxels[theirs - 1], mine))
    owners, first = np.unique(mine[order], return_index=True)
    matched, shared = np.zeros(count, np.int64), np.zeros(count, np.int64)
    matched[owners - 1], shared[owners - 1] = theirs[order[first]], voxels[order[first]]
    return matched, shared


def _links(count, mine, theirs, voxels) -> list[str]:
    links: list[list[str]] = [[] for _ in range(count)]
    for owner, partner, shared in zip(mine.tolist(), theirs.tolist(), voxels.tolist(), strict=True):
        links[owner - 1].append(f"{partner}:{shared}")
    return [" ".join(parts) for parts in links]


def _read_side(rows: pd.DataFrame) -> Side:
    return Side(
        rows["voxels"].to_numpy(),
        tuple(rows["region"]),
        rows["mean_probability"].to_numpy(),
        rows["max_probability"].to_numpy(),
    )


def _read_links(reference: pd.DataFrame) -> Overlaps:
    triples = [
        (component, *map(int, link.split(":")))
        for component, links in zip(reference["component"], reference["links"], strict=True)
        for link in links.split()
    ]
    columns = np.array(triples, np.int64).reshape(-1, 3).T
    return Overlaps(columns[0], columns[1], columns[2])
