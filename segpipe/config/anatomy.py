"""Regions and where they come from, as frozen, typed models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from segpipe.config.fields import Name, NonNegative, Probability, Section, disagreement

NOWHERE = "none"
"""In the place of a region's name: what lies in no region."""


class RegionConfig(Section):
    """One anatomical region: where a false positive is more, or less, of a problem."""

    name: Name = Field(description="name in logs, scores and reports")
    weight: NonNegative = Field(1.0, description="of the penalty on false positives inside")
    source: Literal["mask", "labels", "template", "frequency", "complement"] = Field(
        description="mask: file per case; labels: ids of a label map per case; template: a map in "
        "MNI152 space; frequency: share of training patients with a lesion there, of any label; "
        "complement: outside all others"
    )
    file: str | None = Field(
        None,
        validate_default=True,
        description="mask and labels: file per case, {case} stands for the case id, relative to "
        "the dataset; template: gm, wm, csf, brain of MNI152, or a NIfTI file; frequency: folder "
        "of lesion masks in MNI152 space; null: the references of the fold's training patients",
    )
    ids: tuple[int, ...] = Field(
        (), description="labels: values that make up the region", validate_default=True
    )
    threshold: Probability | None = Field(
        None, lt=1, description="what exceeds it becomes a mask; null: the map stays as it is"
    )
    margin_mm: float = Field(
        0.0,
        validate_default=True,
        description="grow the region by this much, once it is a mask: a soft one is cut at 0.5",
    )
    soften_mm: NonNegative = Field(
        0.0,
        description="standard deviation of the blurred border; frequency: of the smoothing in "
        "template space, before it is cut",
    )
    invert: bool = Field(False, description="1 minus the map, such as: where lesions do not occur")
    floor: Probability = Field(0.0, description="of the weight: it counts the map as this at least")
    optional: bool = Field(
        False, description="a case without the file goes on without the region and is flagged"
    )

    @field_validator("file")
    @classmethod
    def _source_has_a_file(cls, file: str | None, info: ValidationInfo) -> str | None:
        source = info.data.get("source", "complement")
        if source not in ("frequency", "complement") and file is None:
            raise ValueError(f"expected a file, as source {source} needs 'file'")
        return file

    @field_validator("ids")
    @classmethod
    def _labels_have_ids(cls, ids: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if info.data.get("source") == "labels" and not ids:
            raise ValueError("expected label values, as source labels needs 'ids'")
        return ids

    @field_validator("margin_mm")
    @classmethod
    def _rare_lesions_are_cut_first(cls, margin_mm: float, info: ValidationInfo) -> float:
        uncut = info.data.get("threshold", 0.0) is None
        if margin_mm and uncut and info.data.get("source") == "frequency":
            raise ValueError(
                "expected a threshold too, such as 0.01: what grows is a mask, and few lesions are "
                "as frequent as the 0.5 at which a soft map is cut"
            )
        return margin_mm


class RegistrationConfig(Section):
    """How template space is found in scans that lie elsewhere (docs/anatomy.md)."""

    transform: Literal["none", "rigid", "affine", "bspline"] = Field(
        "affine", description="none: only scans in MNI152 space get regions of the template"
    )
    channel: str | None = Field(
        None, description="registered to the template; null: the first named T1, else the first"
    )
    image: str = Field(
        "t1",
        description="t1 of MNI152, or a NIfTI file of a brain in its space, 0 outside, relative to "
        "the dataset",
    )


class AnatomyConfig(Section):
    """Regions. A false-positive voxel weighs the sum over the regions that hold it."""

    regions: tuple[RegionConfig, ...] = Field(
        (), description="names unique; none: every voxel weighs 1"
    )
    registration: RegistrationConfig = Field(
        RegistrationConfig(), description="of the template, for template and frequency"
    )

    @field_validator("regions")
    @classmethod
    def _names_are_unique(cls, regions: tuple[RegionConfig, ...]) -> tuple[RegionConfig, ...]:
        names = [region.name for region in regions]
        for position, name in enumerate(names):
            if name in names[:position]:
                raise disagreement(f"{position}.name", "region names must differ", name)
            if name == NOWHERE:
                raise disagreement(
                    f"{position}.name", "expected a region name other than that of no region", name
                )
        return regions
