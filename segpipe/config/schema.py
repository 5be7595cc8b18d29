"""The experiment as frozen, typed models. Every field says what it means; nothing else is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from segpipe.config.anatomy import AnatomyConfig
from segpipe.config.fields import (
    Axis,
    Count,
    Name,
    NonNegative,
    Positive,
    Probability,
    Section,
    disagreement,
)
from segpipe.config.scoring import EvaluateConfig, PredictConfig
from segpipe.config.tracking import CardConfig, TrackingConfig
from segpipe.config.training import LossConfig, ModelConfig, TrainConfig

GRID_TOLERANCE_MM = 0.05
MAX_VOXELS = 2_000_000_000


class DataConfig(Section):
    """Where the scans are and how a dataset is read."""

    root: Path = Field(description="dataset folder, or a CSV manifest")
    layout: Literal["auto", "nnunet", "decathlon", "bids", "csv"] = Field(
        "auto", description="how the dataset is laid out; auto recognises each of them"
    )
    channels: tuple[str, ...] | None = Field(
        None, description="channel names in order; null: as the dataset declares"
    )
    labels: dict[str, int] | None = Field(
        None, description="label name to value, background 0 left out; null: as declared"
    )
    ignore_label: Count | None = Field(
        None, description="reference value above 0 that counts for nobody, in losses and scores"
    )
    patient_pattern: str | None = Field(
        None,
        description="regular expression whose first group yields the patient from the case id; "
        "null: the layout's own rule",
    )
    repair_nan: bool = Field(
        False, description="replace NaN and infinite voxels by 0 and flag the case, not fail it"
    )
    grid_tolerance_mm: Positive = Field(
        GRID_TOLERANCE_MM,
        description="how far corners of channels, reference and anatomy may lie apart",
    )
    max_voxels: Annotated[int, Field(gt=0)] = Field(
        MAX_VOXELS, description="volumes that claim more voxels are refused before allocation"
    )


class SplitConfig(Section):
    """Folds; patients are never divided."""

    folds: Annotated[int, Field(ge=1)] = Field(
        5, description="number of folds; 1 trains on everything and validates on nothing"
    )
    leave_one_patient_out: bool = Field(
        False, description="one fold per patient, in the order of patient names; ignores folds"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of the shuffle of patients")


class PrepareConfig(Section):
    """From the stored scan to the grid and the intensities that the network sees."""

    spacing_mm: tuple[Positive, Positive, Positive] | None = Field(
        None, description="target spacing along R, A, S; null: the training cases' median"
    )
    normalise: Literal["zscore", "ct", "none"] = Field(
        "zscore",
        description="zscore: per case over the foreground; ct: clip and scale by the training "
        "set's foreground; none: as stored",
    )
    crop: bool = Field(True, description="crop to the bounding box of voxels that are not 0")
    workers: Annotated[int, Field(ge=1)] = Field(2, description="cases prepared side by side")


class AugmentConfig(Section):
    """Probability of each transform per patch; 0 switches it off."""

    enabled: bool = Field(True, description="false: patches as they are")
    mirror_axes: tuple[Axis, ...] = Field(
        ("R", "A", "S"), description="axes along which patches may be mirrored"
    )
    rotate: Probability = Field(0.2, description="rotation about every axis")
    rotate_degrees: NonNegative = Field(15.0, description="largest angle")
    scale: Probability = Field(0.2, description="isotropic scaling")
    scale_range: tuple[Positive, Positive] = Field((0.8, 1.25), description="of the scaling")
    elastic: Probability = Field(0.0, description="smooth deformation")
    elastic_mm: NonNegative = Field(3.0, description="its largest displacement")
    noise: Probability = Field(0.15, description="Gaussian noise")
    blur: Probability = Field(0.15, description="Gaussian blur")
    brightness: Probability = Field(0.15, description="multiplicative brightness")
    contrast: Probability = Field(0.15, description="contrast about the mean")
    gamma: Probability = Field(0.2, description="gamma curve")
    bias_field: Probability = Field(0.1, description="smooth multiplicative field")
    low_resolution: Probability = Field(0.1, description="downsample and back up")

    @property
    def seen_mirrored(self) -> tuple[Axis, ...]:
        """Axes along which the network sees mirrored patches in training."""
        return self.mirror_axes if self.enabled else ()

    @field_validator("scale_range")
    @classmethod
    def _range_is_in_order(cls, scale_range: tuple[float, float]) -> tuple[float, float]:
        if scale_range[0] > scale_range[1]:
            raise ValueError("expected low, high")
        return scale_range


class Config(Section):
    """One experiment."""

    name: Name = Field(description="of the experiment: output folder, MLflow experiment, model")
    output: Path = Field(
        Path("runs"), description="runs, caches and the MLflow store, relative to where you are"
    )
    backend: Literal["tensorflow", "jax", "torch"] = Field(
        "tensorflow", description="Keras backend"
    )
    scheduler: str | None = Field(
        None, description="address of a Dask scheduler on whose workers cases are prepared"
    )
    data: DataConfig = Field(description="the dataset")
    split: SplitConfig = Field(SplitConfig(), description="folds")
    prepare: PrepareConfig = Field(PrepareConfig(), description="grid and intensities")
    anatomy: AnatomyConfig = Field(AnatomyConfig(), description="region masks")
    augment: AugmentConfig = Field(AugmentConfig(), description="augmentation")
    model: ModelConfig = Field(ModelConfig(), description="network")
    loss: LossConfig = Field(LossConfig(), description="training loss")
    train: TrainConfig = Field(TrainConfig(), description="training", validate_default=True)
    predict: PredictConfig = Field(PredictConfig(), description="inference")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="counting")
    tracking: TrackingConfig = Field(TrackingConfig(), description="MLflow")
    card: CardConfig = Field(CardConfig(), description="sentences of the model card")

    @property
    def cache(self) -> Path:
        """Where prepared cases are kept; shared by all experiments of one output folder."""
        return self.output / "cache"

    @field_validator("train")
    @classmethod
    def _patch_has_the_dimensions(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        model = info.data.get("model")
        if model is not None and len(train.patch) != model.dimensions:
            expected = f"expected {model.dimensions} numbers as model.dimensions says"
            raise disagreement("patch", expected, train.patch)
        if model is not None and model.strides is not None:
            halved = [math.prod(along) for along in zip(*model.strides, strict=True)]
            if any(voxels % whole for voxels, whole in zip(train.patch, halved, strict=True)):
                expected = f"expected multiples of {halved}, by which model.strides divide it"
                raise disagreement("patch", expected, train.patch)
        return train

    @field_validator("predict")
    @classmethod
    def _mirrored_as_trained(cls, predict: PredictConfig, info: ValidationInfo) -> PredictConfig:
        augment = info.data.get("augment")
        if augment is not None and not {*predict.mirror_axes} <= {*augment.seen_mirrored}:
            expected = (
                "expected axes that training mirrors along, "
                f"{list(augment.seen_mirrored)} of augment.mirror_axes"
            )
            raise disagreement("mirror_axes", expected, list(predict.mirror_axes))
        return predict
