"""What is told of a run besides its figures: MLflow, and the model card."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from segpipe.config.fields import Section


class TrackingConfig(Section):
    """MLflow on SQLite, inside the output folder."""

    enabled: bool = Field(True, description="false: no MLflow at all")
    register_model: bool = Field(True, description="register bundles; the best is 'champion'")
    champion_metric: Literal["dice", "lesion_f1"] = Field(
        "lesion_f1", description="validation metric by which the champion is beaten"
    )
    overlays: Annotated[int, Field(ge=0)] = Field(
        2, description="validation cases pictured at each validation; 0: none"
    )


class CardConfig(Section):
    """Sentences of the model card. What is left out is not recorded, and the card says so."""

    intended_use: str | None = Field(None, description="what it is for")
    intended_users: str | None = Field(None, description="who may use it")
    out_of_scope: str | None = Field(None, description="what it must not be used for")
    study_design: str | None = Field(
        None, description="retrospective or prospective; how scans were chosen and left out"
    )
    population: str | None = Field(
        None, description="whose scans: disease, ages, sexes, sites, countries"
    )
    acquisition: str | None = Field(None, description="scanners, field strengths, protocols")
    reference_standard: str | None = Field(
        None, description="who drew the reference, with what training and tools, how they agree"
    )
    deidentification: str | None = Field(None, description="how scans were made anonymous")
    ethics: str | None = Field(None, description="approval, consent, known harms")
    licence: str | None = Field(None, description="of the model and of its data")
    contact: str | None = Field(None, description="who made it and answers for it")
    caveats: str | None = Field(None, description="what a user must know besides")
