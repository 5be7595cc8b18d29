"""``predict.json`` as typed, checked records."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from segpipe.config.fields import Name
from segpipe.errors import DataError
from segpipe.journal import read_journal

PREDICT_DOCUMENT = "predict.json"
"""The file's name, in the folder of the predictions."""


class Record(BaseModel):
    """Part of the document; keys that reports do not need are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ChannelRecord(Record):
    """A file that was predicted from."""

    path: str
    index: int | None = None
    sha256: str | None = None


class FilesRecord(Record):
    """What was written, relative to the predictions folder."""

    mask: str | None = None
    components: str | None = None
    probability: str | None = None


class CountRecord(Record):
    """Of one label."""

    components: int
    volume_ml: float
    removed: int | None = None
    removed_volume_ml: float | None = None


class ComponentRecord(Record):
    """One predicted component."""

    id: int = Field(gt=0)
    label: str
    region: str | None = None
    side: str | None = None
    volume_ml: float
    longest_diameter_mm: float | None = None
    mean_probability: float | None = None
    probability_std: float | None = None
    member_share: float | None = None
    touches_border: bool = False


class RegionRecord(Record):
    """Burden of one anatomical region."""

    components: int
    volume_ml: float


class CaseRecord(Record):
    """One case, predicted or not; when and by what, where later calls added others."""

    case: Name
    status: Literal["predicted", "skipped", "failed"]
    channels: tuple[ChannelRecord, ...] = ()
    files: FilesRecord | None = None
    counts: dict[str, CountRecord] | None = None
    components: tuple[ComponentRecord, ...] | None = None
    regions: dict[str, RegionRecord] | None = None
    flags: tuple[str, ...] = ()
    error: str | None = None
    segpipe: str | None = None
    created: str | None = None
    device: str | None = None
    engine: str | None = None
    certificate_void: str | None = None
    max_voxels: int | None = None
    grid_tolerance_mm: float | None = None


class ConfiguredRegion(Record):
    """An anatomical region that the model was trained with."""

    name: str
    source: str
    weight: float


class BundleRecord(Record):
    """The bundle that predicted."""

    name: str
    path: str | None = None
    weights_sha256: str | None = None
    networks: int | None = None
    config_digest: str | None = None
    source_revision: str | None = None
    created: str | None = None
    channels: tuple[str, ...] = ()
    labels: dict[str, int] = {}
    regions: tuple[ConfiguredRegion, ...] | None = None


class SettingsRecord(Record):
    """How probabilities became components."""

    threshold: float
    min_size_mm3: float
    core_threshold: float | None = None
    largest_only: bool = False
    connectivity: int = 26
    overlap: float | None = None
    mirror_axes: tuple[str, ...] = ()


class PredictDocument(Record):
    """Everything that a run of ``segpipe predict`` tells; cases that a kill cut are left out."""

    schema_version: Literal[1] = Field(alias="schema")
    segpipe: str
    created: str
    device: str | None = None
    engine: str | None = None
    bundle: BundleRecord
    settings: SettingsRecord
    of_validation: bool = False
    cases: tuple[CaseRecord, ...]

    @field_validator("cases", mode="before")
    @classmethod
    def _not_only_begun(cls, cases: Any) -> Any:
        if not isinstance(cases, list):
            return cases
        return [c for c in cases if not (isinstance(c, dict) and c.get("status") == "begun")]


def read_document(path: Path) -> PredictDocument:
    """Read and check ``predict.json``.

    Raises
    ------
    DataError
        If the file is missing, is no JSON, or lacks what a report needs.
    """
    try:
        return PredictDocument.model_validate(read_journal(path))
    except OSError as error:
        raise DataError(
            path,
            "cannot be read",
            expected="the folder that 'segpipe predict -o DIR' wrote",
            received=error.strerror or str(error),
            fix="Give the predictions folder.",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            path,
            f"{place}: {first['msg']}" + _more(error.error_count()),
            expected="predict.json of schema 1",
            fix="Predict again with this version of segpipe.",
        ) from error
    except ValueError as error:
        raise DataError(
            path, "is no JSON", received=str(error), fix="Predict again into a new folder."
        ) from error


def _more(errors: int) -> str:
    return f" (and {errors - 1} more)" if errors > 1 else ""
