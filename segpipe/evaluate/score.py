"""Scores of one case: a row for each label, with the fields that ``segpipe score`` promises."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.errors import GeometryError
from segpipe.evaluate.counting import LabelCounts, count_label, union_box
from segpipe.evaluate.masks import check_probabilities, prediction_masks, reference_mask
from segpipe.evaluate.rows import detail_row, score_row
from segpipe.evaluate.settings import LabelValues, ScoreSettings
from segpipe.lesions.classes import class_map
from segpipe.lesions.components import label_components
from segpipe.lesions.reference import find_lesions
from segpipe.lesions.view import View, make_view
from segpipe.volume import Volume, describe_grid, same_grid


@dataclass(frozen=True, eq=False)
class LabelScore:
    """One label of one case.

    Parameters
    ----------
    row : dict
        The promised fields; None for what is undefined.
    detail : dict
        Further figures: IoU, ASSD, volume errors, panoptic quality, by size, by region, what the
        size filter removed, what was ignored.
    counts : LabelCounts
        Label maps and what was counted on them, for painting.
    """

    row: dict[str, Any]
    detail: dict[str, Any]
    counts: LabelCounts

    @property
    def view(self) -> View:
        """The components, for the table."""
        return self.counts.counts.view


def score_case(
    case: str,
    reference: Volume,
    prediction: Volume,
    labels: Mapping[str, LabelValues],
    settings: ScoreSettings,
    *,
    regions: Mapping[str, np.ndarray] | None = None,
    only: Collection[str] | None = None,
    flags: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Score one case; the rows of :func:`score_labels`."""
    scores = score_labels(
        case, reference, prediction, labels, settings, regions=regions, only=only, flags=flags
    )
    return [score.row for score in scores]


def score_labels(
    case: str,
    reference: Volume,
    prediction: Volume,
    labels: Mapping[str, LabelValues],
    settings: ScoreSettings,
    *,
    regions: Mapping[str, np.ndarray] | None = None,
    only: Collection[str] | None = None,
    flags: Sequence[str] = (),
    views: Mapping[str, View] | None = None,
) -> list[LabelScore]:
    """Score every label of one case.

    Parameters
    ----------
    case : str
    reference : Volume, (X, Y, Z) int
        Label values; with ``settings.reference_instances``, numbered lesions.
    prediction : Volume
        (X, Y, Z) int label values; or float probabilities, (X, Y, Z) of the only label or
        (X, Y, Z, K) in the order of ``labels``. NaN counts as 0 and is flagged.
    labels : mapping of str to int, tuple of int, or None
        Values of each label; None: every value but the background.
    settings : ScoreSettings
    regions : mapping of str to (X, Y, Z) ndarray, optional
        bool, or shares in [0, 1], on the same grid.
    only : collection of str, optional
        Score these labels and no others.
    flags : sequence of str
        What the readers noticed; goes into every row.
    views : mapping of str to View, optional
        By label: components of these probabilities at ``settings.threshold``, made by
        :func:`tabulate` with the same rule and connectivity. They are not tabulated again.

    Returns
    -------
    list of LabelScore
        In the order of ``labels``.

    Raises
    ------
    GeometryError
        If the volumes do not lie on one grid.
    DataError
        If the probabilities fit neither the labels nor [0, 1].
    """
    _check_grid(case, reference, prediction)
    chosen = {name: labels[name] for name in labels if only is None or name in only}
    masks, noticed = prediction_masks(case, prediction, labels, chosen, settings)
    soft = prediction.array.dtype.kind == "f"
    scores = []
    for name, values in chosen.items():
        truth, predicted = reference_mask(reference.array, values, settings), masks[name]
        if settings.ignore_label is not None:
            predicted = predicted & (reference.array != settings.ignore_label)
        counted = count_label(
            truth,
            predicted,
            reference.affine,
            settings.limits(),
            names=(case, name),
            instances=settings.reference_instances,
            probability=_own(prediction.array, labels, name) if soft else None,
            threshold=settings.threshold if soft else float("nan"),
            regions=regions,
            view=(views or {}).get(name),
        )
        row = score_row(case, name, [*flags, *noticed], counted, settings.tolerance_mm)
        names = None if regions is None else tuple(regions)
        scores.append(LabelScore(row, detail_row(case, name, counted, names), counted))
    return scores


def tabulate(
    case: str,
    reference: Volume,
    probability: Volume,
    labels: Mapping[str, LabelValues],
    settings: ScoreSettings,
    thresholds: Sequence[float],
    *,
    regions: Mapping[str, np.ndarray] | None = None,
    only: Collection[str] | None = None,
) -> list[View]:
    """Every component of one case at every threshold, on both sides.

    Parameters
    ----------
    case, reference, labels, regions, only
        As in :func:`score_labels`.
    probability : Volume, (X, Y, Z) or (X, Y, Z, K) float
        In the order of ``labels``; NaN counts as 0.
    settings : ScoreSettings
        Rule, connectivity, instances and ignore label; no component is left out for its size.
    thresholds : sequence of float

    Returns
    -------
    list of View
        For each threshold, one per label.

    Raises
    ------
    GeometryError
        If the volumes do not lie on one grid.
    DataError
        If the probabilities fit neither the labels nor [0, 1].
    """
    _check_grid(case, reference, probability)
    chosen = {name: labels[name] for name in labels if only is None or name in only}
    check_probabilities(case, probability.array, labels, chosen)
    limits = settings.limits()
    scores = np.nan_to_num(probability.array)
    foreground = scores if scores.ndim == 3 else scores.sum(axis=-1)
    margin = limits.rule.dilation_voxels
    box = union_box(reference.array, foreground > min(thresholds), margin=margin)
    truth, scores = reference.array[box], scores[box]
    cropped = {name: region[box] for name, region in (regions or {}).items()}
    valid = None if settings.ignore_label is None else truth != settings.ignore_label
    instances = settings.reference_instances
    lesions = {
        name: find_lesions(reference_mask(truth, values, settings), limits, instances=instances)
        for name, values in chosen.items()
    }
    views = []
    for threshold in thresholds:
        classes = class_map(scores, threshold)
        for name in chosen:
            mask = classes == _index(scores, labels, name) + 1
            views.append(
                make_view(
                    case,
                    name,
                    lesions[name].labels,
                    label_components(mask if valid is None else mask & valid, limits.connectivity)[
                        0
                    ],
                    reference.voxel_volume_mm3,
                    reach=lesions[name].reach,
                    threshold=threshold,
                    probability=_own(scores, labels, name),
                    regions=cropped,
                )
            )
    return views


def _check_grid(case: str, reference: Volume, prediction: Volume) -> None:
    if not same_grid(reference, prediction):
        raise GeometryError(
            f"{case}: expected reference and prediction on one grid; received "
            f"{describe_grid(reference)} and {describe_grid(prediction)}. "
            "Bring the prediction onto the reference's grid."
        )


def _index(probabilities: np.ndarray, labels: Mapping[str, LabelValues], name: str) -> int:
    """Which map is the label's; a single map is that of whatever label is scored."""
    return 0 if probabilities.ndim == 3 else list(labels).index(name)


def _own(probabilities: np.ndarray, labels: Mapping[str, LabelValues], name: str) -> np.ndarray:
    if probabilities.ndim == 3:
        return probabilities
    return probabilities[..., _index(probabilities, labels, name)]
