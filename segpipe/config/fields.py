"""Types that the sections of the configuration share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from segpipe.config.durations import known_duration
from segpipe.config.rules import known_rule

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Rule = Annotated[str, AfterValidator(known_rule)]
Duration = Annotated[str, AfterValidator(known_duration)]
Axis = Literal["R", "A", "S"]
Count = Annotated[int, Field(gt=0)]
Shape = Annotated[tuple[Count, ...], Field(min_length=2, max_length=3)]


class Section(BaseModel):
    """A part of the configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
