"""The table of components: everything lesion-wise, computed once per case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from segpipe.errors import GeometryError
from segpipe.evaluate.counting import union_box
from segpipe.evaluate.score import LabelValues, ScoreSettings, mask_of
from segpipe.lesions.classes import class_map
from segpipe.lesions.components import component_voxels, label_components, large_enough
from segpipe.lesions.matching import Matching, Overlaps, Rule, find_overlaps, match_overlaps
from segpipe.lesions.places import component_regions
from segpipe.volume import Volume, describe_grid, same_grid

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

``side`` is "reference" or "prediction"; ``matched`` is the largest overlapping component of the
other side, 0 for none; ``links`` lists every overlapping one as ``component:voxels``, separated
by blanks, so that each rule and each minimum size can be applied to the table afterwards.
"""


def component_table(
    case: str,
    reference: Volume,
    probability: Volume,
    labels: Mapping[str, LabelValues],
    settings: ScoreSettings,
    *,
    regions: Mapping[str, np.ndarray] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> pd.DataFrame:
    """Every component of one case at every threshold, on both sides.

    Parameters
    ----------
    case : str
    reference : Volume, (X, Y, Z) int
    probability : Volume, (X, Y, Z) or (X, Y, Z, K) float
        In the order of ``labels``; NaN counts as 0.
    labels : mapping of str to int, tuple of int, or None
    settings : ScoreSettings
        Connectivity and ignore label; no component is left out for its size.
    regions : mapping of str to (X, Y, Z) ndarray, optional
    thresholds : sequence of float

    Returns
    -------
    pandas.DataFrame
        With :data:`COLUMNS`. Empty for a case without components.

    Raises
    ------
    GeometryError
        If the volumes do not lie on one grid.
    """
    if not same_grid(reference, probability):
        raise GeometryError(
            f"{case}: expected reference and probability on one grid; received "
            f"{describe_grid(reference)} and {describe_grid(probability)}"
        )
    scores = np.nan_to_num(probability.array)
    foreground = scores if scores.ndim == 3 else scores.sum(axis=-1)
    box = union_box(reference.array, foreground > min(thresholds))
    truth, scores = reference.array[box], scores[box]
    cropped = {name: region[box] for name, region in (regions or {}).items()}
    ignored = truth == settings.ignore_label if settings.ignore_label is not None else None
    volume_mm3 = reference.voxel_volume_mm3
    lesions = {
        name: _labelled(mask_of(truth, values), ignored, settings)
        for name, values in labels.items()
    }
    frames = []
    for threshold in thresholds:
        classes = class_map(scores, threshold)
        for index, name in enumerate(labels):
            predicted = _labelled(classes == index + 1, ignored, settings)
            own = scores if scores.ndim == 3 else scores[..., index]
            sides = _both_sides(lesions[name], predicted, own, cropped, volume_mm3)
            frames += [
                frame.assign(case=case, label=name, threshold=float(threshold), side=side)
                for side, frame in sides.items()
            ]
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)].astype(COLUMNS)


def empty_table() -> pd.DataFrame:
    """A table without rows, to which the tables of cases can be added."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})


def _labelled(mask, ignored, settings) -> np.ndarray:
    mask = mask if ignored is None else mask & ~ignored
    return label_components(mask, settings.connectivity)[0]


def _both_sides(lesions, predicted, scores, regions, volume_mm3) -> dict[str, pd.DataFrame]:
    overlaps = find_overlaps(lesions, predicted)
    frames = {
        "reference": _describe(lesions, scores, regions, volume_mm3),
        "prediction": _describe(predicted, scores, regions, volume_mm3),
    }
    sizes = {side: frame["size_mm3"].to_numpy() for side, frame in frames.items()}
    first, second = overlaps.reference, overlaps.prediction
    _link(frames["reference"], first, second, overlaps.voxels, sizes["prediction"])
    _link(frames["prediction"], second, first, overlaps.voxels, sizes["reference"])
    return frames


def _describe(labels, scores, regions, volume_mm3) -> pd.DataFrame:
    count = int(labels.max(initial=0))
    voxels = component_voxels(labels, count)
    inside = labels > 0
    numbers, values = labels[inside], scores[inside].astype(np.float64)
    highest = np.zeros(count + 1)
    np.maximum.at(highest, numbers, values)
    return pd.DataFrame(
        {
            "component": np.arange(1, count + 1),
            "region": list(component_regions(labels, count, regions)),
            "voxels": voxels,
            "size_mm3": voxels * volume_mm3,
            "mean_probability": np.bincount(numbers, values, count + 1)[1:] / voxels,
            "max_probability": highest[1:],
            "matched": 0,
            "overlap_voxels": 0,
            "matched_size_mm3": 0.0,
            "links": "",
        }
    )


def _link(frame, mine, others, voxels, other_sizes) -> None:
    """Fill in the links of one side; the largest partner, the first of equals, is the match."""
    order = np.lexsort((others, -other_sizes[others - 1], mine))
    owners, first = np.unique(mine[order], return_index=True)
    best = order[first]
    matched = frame["matched"].to_numpy(copy=True)
    overlap, size = frame["overlap_voxels"].to_numpy(copy=True), np.zeros(len(frame))
    matched[owners - 1], overlap[owners - 1] = others[best], voxels[best]
    size[owners - 1] = other_sizes[others[best] - 1]
    links: list[list[str]] = [[] for _ in range(len(frame))]
    for owner, other, shared in zip(mine, others, voxels, strict=True):
        links[owner - 1].append(f"{other}:{shared}")
    frame["matched"], frame["overlap_voxels"], frame["matched_size_mm3"] = matched, overlap, size
    frame["links"] = [" ".join(parts) for parts in links]


@dataclass(frozen=True, eq=False)
class TableView:
    """One label of one case at one threshold, read back from the table.

    Parameters
    ----------
    case, label : str
    threshold : float
    reference, prediction : DataFrame
        The components of each side, in label order.
    overlaps : Overlaps
    """

    case: str
    label: str
    threshold: float
    reference: pd.DataFrame
    prediction: pd.DataFrame
    overlaps: Overlaps

    def match(self, rule: Rule, min_size_mm3: float, removal_size_mm3: float) -> Matching:
        """The matching that scoring would find, with its two size limits."""
        lesions = self.reference["size_mm3"].to_numpy()
        predicted = self.prediction["size_mm3"].to_numpy()
        limit = max(min_size_mm3, removal_size_mm3)
        return match_overlaps(
            self.overlaps,
            self.reference["voxels"].to_numpy(),
            self.prediction["voxels"].to_numpy(),
            rule,
            reference_counted=large_enough(lesions, 1.0, min_size_mm3),
            prediction_kept=large_enough(predicted, 1.0, limit),
        )


def views(table: pd.DataFrame) -> Iterator[TableView]:
    """Read the table back: one view per case, label and threshold that has components."""
    keys = ["case", "label", "threshold"]
    for key, rows in table.groupby(keys, sort=False):
        case, label, threshold = cast(tuple[str, str, float], key)
        reference = rows[rows["side"] == "reference"].sort_values("component")
        prediction = rows[rows["side"] == "prediction"].sort_values("component")
        yield TableView(
            case, label, float(threshold), reference, prediction, _read_links(reference)
        )


def _read_links(reference: pd.DataFrame) -> Overlaps:
    triples = [
        (component, *map(int, link.split(":")))
        for component, links in zip(reference["component"], reference["links"], strict=True)
        for link in links.split()
    ]
    columns = np.array(triples, np.int64).reshape(-1, 3).T
    return Overlaps(columns[0], columns[1], columns[2])
