"""The experiment as frozen, typed models. Every field says what it means; nothing else is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from segpipe.config.anatomy import AnatomyConfig
from segpipe.config.fields import Name, NonNegative, Positive, Probability, Rule, Section
from segpipe.config.rules import fill_from_rule
from segpipe.config.training import LossConfig, ModelConfig, TrainConfig


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
    ignore_label: int | None = Field(
        None, description="reference value that counts for nobody, in losses and scores"
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
        0.05, description="how far corners of channels, reference and anatomy may lie apart"
    )
    max_voxels: Annotated[int, Field(gt=0)] = Field(
        2_000_000_000, description="volumes that claim more voxels are refused before allocation"
    )


class SplitConfig(Section):
    """Folds; patients are never divided."""

    folds: Annotated[int, Field(ge=1)] = Field(
        5, description="number of folds; 1 trains on everything and validates on nothing"
    )
    leave_one_patient_out: bool = Field(
        False, description="one fold per patient, in the order of patient names; ignores folds"
    )
    seed: int = Field(0, description="of the shuffle of patients")


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
    mirror_axes: tuple[Literal["R", "A", "S"], ...] = Field(
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

    @model_validator(mode="after")
    def _range_is_in_order(self) -> AugmentConfig:
        if self.scale_range[0] > self.scale_range[1]:
            raise ValueError(f"scale_range: expected low, high; received {self.scale_range}")
        return self


class PredictConfig(Section):
    """Sliding-window inference."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="of neighbouring tiles")
    batch: Annotated[int, Field(gt=0)] = Field(1, description="tiles per call")
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
            raise ValueError(f"alpha: expected below {bound:g}, the largest risk there is")
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
        description="operating point on validation: f1 maximises lesion F1; sensitivity minimises "
        "false-positive regions above the floor; fixed keeps predict.operating_point; certified "
        "takes the certificate's threshold, or f1 where there is none",
    )
    certify: CertifyConfig = Field(CertifyConfig(), description="certificate")
    sensitivity_floor: Probability = Field(0.8, description="lesion sensitivity to keep")
    min_sizes_mm3: tuple[NonNegative, ...] = Field(
        (0.0, 5.0, 10.0, 20.0, 50.0, 100.0), description="minimum sizes tried"
    )
    by: tuple[str, ...] = Field(
        (), description="columns of the manifest, such as site, by which scores are grouped"
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="draws for intervals")

    @model_validator(mode="before")
    @classmethod
    def _connectivity_of_the_rule(cls, values: Any) -> Any:
        return fill_from_rule(values)


class TrackingConfig(Section):
    """MLflow on SQLite, inside the output folder."""

    enabled: bool = Field(True, description="false: no MLflow at all")
    register_model: bool = Field(True, description="register bundles; the best is 'champion'")
    champion_metric: Literal["dice", "lesion_f1"] = Field(
        "lesion_f1", description="validation metric by which the champion is beaten"
    )


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
    train: TrainConfig = Field(TrainConfig(), description="training")
    predict: PredictConfig = Field(PredictConfig(), description="inference")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="counting")
    tracking: TrackingConfig = Field(TrackingConfig(), description="MLflow")

    @model_validator(mode="after")
    def _sections_agree(self) -> Config:
        dims, patch, features = self.model.dimensions, self.train.patch, self.model.features
        if len(patch) != dims:
            raise ValueError(f"train.patch: expected {dims} numbers as model.dimensions says")
        strides = self.model.strides
        if strides is not None and (
            len(strides) != len(features) - 1 or any(len(s) != dims for s in strides)
        ):
            raise ValueError(
                f"model.strides: expected {len(features) - 1} entries of {dims} numbers, one per "
                "level after the first"
            )
        if self.loss.ramp_end < self.loss.ramp_start:
            raise ValueError("loss.ramp_end: expected a value not below loss.ramp_start")
        if self.loss.bce == 0 and self.loss.dice == 0:
            raise ValueError("loss: expected bce or dice above 0; nothing else finds lesions")
        return self
