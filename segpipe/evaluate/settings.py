"""How masks are scored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.config.fields import Count, NonNegative, Positive, Rule
from segpipe.config.rules import fill_from_rule, parse_rule
from segpipe.lesions.limits import Limits

LabelValues = int | tuple[int, ...] | None
"""Value of a label, several values together, or None: every value but the background."""


class ScoreSettings(BaseModel):
    """How masks are scored; written into every document of scores."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rule: Rule = Field("any", description="any, iou:X, overlap:X, or a preset")
    connectivity: Literal[6, 18, 26] = Field(
        26, description="neighbours that make a component; left out: as the rule says"
    )
    min_size_mm3: NonNegative = Field(
        0.0, description="lesions and predicted regions below this size are not counted"
    )
    removal_size_mm3: NonNegative = Field(
        0.0, description="predicted components below this size are removed before scoring"
    )
    threshold: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="foreground is probability > threshold, strictly"
    )
    core_threshold: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="predicted components without a probability above it are removed"
    )
    largest_only: bool = Field(
        False, description="predicted components but the largest of each label are removed"
    )
    tolerance_mm: Positive = Field(1.0, description="of the surface Dice")
    reference_instances: bool = Field(
        False, description="the reference numbers its lesions; the numbers are no labels"
    )
    ignore_label: Count | None = Field(
        None, description="reference value above 0 that counts for nobody"
    )
    strict: bool = Field(False, description="a case with a NaN probability fails")
    froc_sizes_mm3: tuple[NonNegative, ...] = Field(
        EvaluateConfig().min_sizes_mm3,
        min_length=1,
        description="minimum sizes of the FROC curves",
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="draws for intervals")
    seed: int = Field(0, description="of the bootstrap")

    @model_validator(mode="before")
    @classmethod
    def _connectivity_of_the_rule(cls, values: Any) -> Any:
        return fill_from_rule(values)

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
            core_threshold=operating_point.core_threshold,
            largest_only=operating_point.largest_only,
            tolerance_mm=evaluate.tolerance_mm,
            ignore_label=ignore_label,
            froc_sizes_mm3=evaluate.min_sizes_mm3,
            bootstrap=evaluate.bootstrap,
            seed=seed,
        )

    def limits(self) -> Limits:
        """What makes a component, and which count."""
        return Limits(
            parse_rule(self.rule),
            self.connectivity,
            self.min_size_mm3,
            self.removal_size_mm3,
            self.core_threshold,
            self.largest_only,
        )
