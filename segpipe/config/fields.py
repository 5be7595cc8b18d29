"""Types that the sections of the configuration share."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from segpipe.config.durations import known_duration
from segpipe.config.rules import known_rule

NAME_PATTERN = r"[A-Za-z0-9_-]{1,64}"
"""Of experiments, labels, regions and cases: what a file can be called anywhere."""

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
Rule = Annotated[str, AfterValidator(known_rule)]
Duration = Annotated[str, AfterValidator(known_duration)]
Axis = Literal["R", "A", "S"]
Count = Annotated[int, Field(gt=0)]
Shape = Annotated[tuple[Count, ...], Field(min_length=2, max_length=3)]


class Section(BaseModel):
    """A part of the configuration: frozen; unknown keys and yes or no for a number are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """``augment.elastic: on`` would else be a probability of 1."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if _holds_bool(value) and not _admits_bool(annotation):
            raise ValueError("expected no true or false, which YAML also reads in yes, no, on, off")
        return value


def _holds_bool(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_bool(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_bool(item) for item in value)
    return isinstance(value, bool)


def _admits_bool(annotation: Any) -> bool:
    """Whether a field may hold one, or has a section's own fields to decide it."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation in (bool, Any) or issubclass(annotation, BaseModel)
    return any(_admits_bool(part) for part in typing.get_args(annotation))


def disagreement(path: str, expected: str, received: object) -> PydanticCustomError:
    """What a validator raises that looks into the section at a field that another one refutes.

    Parameters
    ----------
    path : str
        From the field that is validated to the one at fault.
    expected, received
        What this one would have to be, and what it is.
    """
    told = {"path": path, "expected": expected, "received": received}
    return PydanticCustomError("disagreement", "{expected}", told)
