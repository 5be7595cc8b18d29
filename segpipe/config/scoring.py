"""Inference and counting as frozen, typed models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from segpipe.config.fields import (
    Axis,
    NonNegative,
    Positive,
    Probability,
    Rule,
    Section,
    disagreement,
)
from segpipe.config.rules import fill_from_rule


class OperatingPoint(Section):
    """Where probabilities become regions."""

    threshold: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="foreground is probability > threshold, strictly"
    )
    min_size_mm3: NonNegative = Field(0.0, description="smaller predicted regions are removed")
    core_threshold: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="hysteresis: predicted regions without a voxel above it are removed; null: off",
    )
    largest_only: bool = Field(
        False, description="keep only the largest predicted region of each label, as of an organ"
    )


class PredictConfig(Section):
    """Sliding-window inference."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="of neighbouring tiles")
    batch: Annotated[int, Field(gt=0)] = Field(1, description="tiles per call")
    mirror_axes: tuple[Axis, ...] = Field(
        (),
        description="also predict mirrored along each of these axes and all their combinations, "
        "and average; n axes cost 2^n times the time",
    )
    engine: Literal["auto", "keras", "openvino"] = Field(
        "auto", description="auto: OpenVINO on a CPU where installed, else Keras"
    )
    operating_point: OperatingPoint = Field(
        OperatingPoint(), description="used until evaluation has chosen a better one"
    )
    strict: bool = Field(False, description="stop at the first case that fails")


class CertifyConfig(Section):
    """What conformal risk control bounds, on validation patients (docs/evaluation.md)."""

    risk: Literal["missed_lesions", "false_positive_regions"] = Field(
        "missed_lesions",
        description="missed_lesions: share of a patient's lesions that is missed; "
        "false_positive_regions: a patient's false-positive regions per scan",
    )
    alpha: Positive = Field(0.1, description="bound of the expected risk")
    cap: Positive = Field(
        20.0, description="false_positive_regions: a patient counts at most this many"
    )
    tuning_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="share of the validation patients that choose the minimum size and do not "
        "calibrate; 0: it is that of predict.operating_point",
    )

    @model_validator(mode="after")
    def _alpha_is_below_the_bound(self) -> CertifyConfig:
        bound = self.cap if self.risk == "false_positive_regions" else 1.0
        if self.alpha >= bound:
            expected = f"expected below {bound:g}, the largest risk there is"
            raise disagreement("alpha", expected, self.alpha)
        return self


class EvaluateConfig(Section):
    """How lesions are counted."""

    rule: Rule = Field("any", description="any, iou:X, overlap:X, or a preset (docs/evaluation.md)")
    connectivity: Literal[6, 18, 26] = Field(
        26, description="neighbours that make a component; left out: as the rule says"
    )
    min_size_mm3: NonNegative = Field(
        0.0, description="false positives and lesions below this size are not counted"
    )
    tolerance_mm: Positive = Field(1.0, description="of the surface Dice")
    choose: Literal["f1", "sensitivity", "fixed", "certified"] = Field(
        "f1",
        description="operating point on validation: f1 has the highest lesion F1, give or take a "
        "standard error; sensitivity minimises false-positive regions above the floor; fixed keeps "
        "predict.operating_point; certified takes the certificate's threshold, or f1 where there "
        "is none",
    )
    try_steps: tuple[Literal["core_threshold", "largest_only"], ...] = Field(
        ("core_threshold", "largest_only"),
        description="further steps tried for f1 and sensitivity, adopted where they help",
    )
    certify: CertifyConfig = Field(CertifyConfig(), description="certificate")
    sensitivity_floor: Probability = Field(0.8, description="lesion sensitivity to keep")
    min_sizes_mm3: tuple[NonNegative, ...] = Field(
        (0.0, 5.0, 10.0, 20.0, 50.0, 100.0), min_length=1, description="minimum sizes tried"
    )
    by: tuple[str, ...] = Field(
        (), description="columns of the manifest, such as site, by which scores are grouped"
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="draws for intervals")

    @model_validator(mode="before")
    @classmethod
    def _connectivity_of_the_rule(cls, values: Any) -> Any:
        return fill_from_rule(values)

    @property
    def counting(self) -> dict[str, Any]:
        """What figures that were counted have in common with others; ready for JSON."""
        return {
            "rule": self.rule,
            "connectivity": self.connectivity,
            "min_size_mm3": self.min_size_mm3,
        }
