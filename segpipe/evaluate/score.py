"""Scores of one case: a row for each label, with the fields that ``segpipe score`` promises."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.errors import DataError, GeometryError
from segpipe.evaluate.counting import LabelCounts, Limits, count_label
from segpipe.evaluate.rows import defined, detail_row, score_row
from segpipe.evaluate.summary import failed_row, score_document, summarise
from segpipe.lesions.classes import class_map
from segpipe.lesions.matching import parse_rule
from segpipe.volume import Volume, describe_grid, same_grid

__all__ = [
    "LabelScore",
    "LabelValues",
    "ScoreSettings",
    "defined",
    "failed_row",
    "mask_of",
    "score_case",
    "score_document",
    "score_labels",
    "summarise",
]

LabelValues = int | tuple[int, ...] | None
"""Value of a label, several values together, or None: every value but the background."""

NonNegative = Annotated[float, Field(ge=0)]


class ScoreSettings(BaseModel):
    """How masks are scored; written into every document of scores."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rule: str = Field("any", description="any, iou:X or overlap:X")
    connectivity: Literal[6, 18, 26] = Field(26, description="neighbours that make a component")
    min_size_mm3: NonNegative = Field(
        0.0, description="lesions and predicted regions below this size are not counted"
    )
    removal_size_mm3: NonNegative = Field(
        0.0, description="predicted components below this size are removed before scoring"
    )
    threshold: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="foreground is probability > threshold, strictly"
    )
    tolerance_mm: Annotated[float, Field(gt=0)] = Field(1.0, description="of the surface Dice")
    reference_instances: bool = Field(
        False, description="the reference numbers its lesions; the numbers are no labels"
    )
    ignore_label: int | None = Field(None, description="reference value that counts for nobody")
    strict: bool = Field(False, description="a case with a NaN probability fails")
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="draws for intervals")
    seed: int = Field(0, description="of the bootstrap")

    @field_validator("rule")
    @classmethod
    def _known_rule(cls, rule: str) -> str:
        parse_rule(rule)
        return rule

    @classmethod
    def from_config(
        cls,
        evaluate: EvaluateConfig,
        operating_point: OperatingPoint,
        *,
        ignore_label: int | None = None,
        seed: int = 0,
    ) -> ScoreSettings:
        """The settings by which ``segpipe evaluate`` scores probabilities."""
        return cls(
            rule=evaluate.rule,
            connectivity=evaluate.connectivity,
            min_size_mm3=evaluate.min_size_mm3,
            removal_size_mm3=operating_point.min_size_mm3,
            threshold=operating_point.threshold,
            tolerance_mm=evaluate.tolerance_mm,
            ignore_label=ignore_label,
            bootstrap=evaluate.bootstrap,
            seed=seed,
        )

    def limits(self) -> Limits:
        """What makes a component, and which count."""
        return Limits(
            parse_rule(self.rule), self.connectivity, self.min_size_mm3, self.removal_size_mm3
        )


@dataclass(frozen=True, eq=False)
class LabelScore:
    """One label of one case.

    Parameters
    ----------
    row : dict
        The promised fields; None for what is undefined.
    detail : dict
        Further figures: IoU, ASSD, volume errors, by size, by region, what the size filter
        removed, what was ignored.
    counts : LabelCounts
        Components and their matching, for painting and tables.
    """

    row: dict[str, Any]
    detail: dict[str, Any]
    counts: LabelCounts


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
    if not same_grid(reference, prediction):
        raise GeometryError(
            f"{case}: expected reference and prediction on one grid; received "
            f"{describe_grid(reference)} and {describe_grid(prediction)}. "
            "Bring the prediction onto the reference's grid."
        )
    chosen = {name: labels[name] for name in labels if only is None or name in only}
    masks, noticed = prediction_masks(case, prediction, labels, chosen, settings)
    scores = []
    for name, values in chosen.items():
        truth, predicted = reference_mask(reference.array, values, settings), masks[name]
        if settings.ignore_label is not None:
            predicted = predicted & (reference.array != settings.ignore_label)
        counts = count_label(
            truth,
            predicted,
            reference.affine,
            settings.limits(),
            instances=settings.reference_instances,
        )
        row = score_row(case, name, [*flags, *noticed], counts, settings.tolerance_mm)
        scores.append(LabelScore(row, detail_row(case, name, counts, regions), counts))
    return scores


def reference_mask(array: np.ndarray, values: LabelValues, settings: ScoreSettings) -> np.ndarray:
    """Where the reference has a label; with numbered lesions, their numbers."""
    ignored = settings.ignore_label
    if settings.reference_instances:
        return array if ignored is None else np.where(array == ignored, 0, array)
    mask = mask_of(array, values)
    return mask if ignored is None else mask & (array != ignored)


def mask_of(array: np.ndarray, values: LabelValues) -> np.ndarray:
    """Where a label map has one of the values; None: any but the background."""
    if values is None:
        return array != 0
    if isinstance(values, int):
        return array == values
    return np.isin(array, values)


def prediction_masks(
    case: str,
    prediction: Volume,
    labels: Mapping[str, LabelValues],
    chosen: Mapping[str, LabelValues],
    settings: ScoreSettings,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The predicted mask of every chosen label, and flags about the probabilities."""
    array = prediction.array
    if array.dtype.kind != "f":
        return {name: mask_of(array, values) for name, values in chosen.items()}, []
    undefined = int(np.count_nonzero(np.isnan(array)))
    if array.size and (np.nanmin(array, initial=0) < 0 or np.nanmax(array, initial=0) > 1):
        raise DataError(
            case,
            "prediction holds neither labels nor probabilities",
            expected="integers, or probabilities from 0 to 1",
            received=f"values from {np.nanmin(array):.4g} to {np.nanmax(array):.4g}",
            fix="Write integer labels, or scale the map to probabilities.",
        )
    names = list(labels) if array.ndim == 4 else list(chosen)
    found = array.shape[3] if array.ndim == 4 else 1
    if found != len(names):
        raise DataError(
            case,
            "probabilities do not fit the labels",
            expected=f"{len(names)} maps ({', '.join(names)})",
            received=f"{found} maps",
            fix="Give one map per label, or choose the label of a single map.",
        )
    classes = class_map(array, settings.threshold)
    masks = {name: classes == names.index(name) + 1 for name in chosen}
    return masks, [f"{undefined} NaN probabilities counted as 0"] if undefined else []
