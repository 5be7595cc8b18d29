"""Network, loss and training as frozen, typed models."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from segpipe.config.durations import parse_duration
from segpipe.config.fields import (
    Count,
    Duration,
    NonNegative,
    Positive,
    Probability,
    Section,
    Seed,
    Shape,
)


class ModelConfig(Section):
    """The U-Net."""

    dimensions: Literal[2, 3] = Field(
        3, description="3: volumes; 2: slices across model.slice_axis"
    )
    slice_axis: Literal["R", "A", "S"] | None = Field(
        None,
        description="axis across the slices of 2-D networks: R for sagittal, A coronal, S axial "
        "ones; null: the coarsest, the last of equals",
    )
    block: Literal["plain", "residual"] = Field(
        "residual", description="convolution blocks; residual ones have a shortcut past them"
    )
    features: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (16, 32, 64, 128), min_length=2, description="channels at each level, finest first"
    )
    convs_per_level: Annotated[int, Field(ge=1)] = Field(2, description="convolutions per block")
    strides: tuple[tuple[Count, ...], ...] | None = Field(
        None,
        description="downsampling per axis into each level after the first; null: 2 where the "
        "spacing and the patch allow",
    )
    norm: Literal["instance", "batch", "none"] = Field("instance", description="normalisation")
    activation: Literal["leaky_relu", "relu", "silu"] = Field(
        "leaky_relu", description="activation"
    )
    deep_supervision: bool = Field(False, description="losses at every decoder level")

    @field_validator("strides")
    @classmethod
    def _strides_for_every_level(
        cls, strides: tuple[tuple[int, ...], ...] | None, info: ValidationInfo
    ) -> tuple[tuple[int, ...], ...] | None:
        if strides is None or not {"dimensions", "features"} <= info.data.keys():
            return strides
        levels, dims = len(info.data["features"]) - 1, info.data["dimensions"]
        if len(strides) != levels or any(len(stride) != dims for stride in strides):
            raise ValueError(
                f"expected {levels} entries of {dims} numbers, one per level after the first"
            )
        return strides


class VoxelCountConfig(Section):
    """Masked count penalty on false-positive voxels (docs/losses.md)."""

    weight: NonNegative = Field(0.05, description="λ after the ramp; 0 switches it off")
    threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="probability from which a voxel counts"
    )
    tau: Positive = Field(0.5, description="softness of the count, in logits")
    delta: NonNegative = Field(2.0, description="width of the gate below the threshold, in logits")
    budget_mm3: Positive = Field(
        100.0, description="false-positive volume per patch at which the penalty reaches log 2"
    )
    border_mm: NonNegative = Field(
        1.0,
        description="band around the reference that no penalty falls on; of region_count too",
    )


class RegionCountConfig(Section):
    """Penalty on the number of false-positive regions (docs/losses.md)."""

    weight: NonNegative = Field(0.0, description="λ after the ramp; 0 switches it off")
    min_size_mm3: NonNegative = Field(0.0, description="smaller regions are not counted")
    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="a region is false-positive while no greater share of it lies on the "
        "reference or its band",
    )
    cut: Literal["full", "half", "none"] = Field(
        "half",
        description="how a region counts that the patch's border cuts: half and none whatever "
        "its size, as that is unknown; full: as if it ended there",
    )


class MissedConfig(Section):
    """Penalty on missed lesions, the counterpart of region_count (docs/losses.md)."""

    weight: NonNegative | None = Field(
        None, description="λ after the ramp; null: that of region_count; 0 switches it off"
    )


class LossConfig(Section):
    """Total loss: bce + dice + λ · voxel_count + λ · region_count + λ · missed."""

    bce: NonNegative = Field(1.0, description="weight of (binary or categorical) cross-entropy")
    dice: NonNegative = Field(1.0, description="weight of the soft Dice loss")
    voxel_count: VoxelCountConfig = Field(
        VoxelCountConfig(), description="penalty on confident false-positive voxels"
    )
    region_count: RegionCountConfig = Field(
        RegionCountConfig(), description="penalty on false-positive regions, whatever their size"
    )
    missed: MissedConfig = Field(
        MissedConfig(), description="penalty on lesions of which nothing is found"
    )
    ramp_start: Probability = Field(
        0.15, description="share of the steps before which the penalties are 0"
    )
    ramp_end: Probability = Field(
        0.4,
        description="share of the steps from which they have their full weight",
        validate_default=True,
    )
    threshold_start: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.7,
        description="region_count and missed: probability above which a voxel is found, until "
        "ramp_start",
    )
    threshold_end: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="the same from ramp_end on; in between it moves in a line"
    )
    labelling: Literal["auto", "graph", "host"] = Field(
        "auto",
        description="where regions are labelled, with equal results; auto: host beside a CPU, "
        "graph on a GPU",
    )

    @field_validator("dice")
    @classmethod
    def _something_finds_lesions(cls, dice: float, info: ValidationInfo) -> float:
        if dice == 0 and info.data.get("bce") == 0:
            raise ValueError("expected above 0, or loss.bce above 0: nothing else finds lesions")
        return dice

    @field_validator("ramp_end")
    @classmethod
    def _ramp_rises(cls, ramp_end: float, info: ValidationInfo) -> float:
        if ramp_end < info.data.get("ramp_start", 0.0):
            raise ValueError("expected a value not below loss.ramp_start")
        return ramp_end

    @property
    def missed_weight(self) -> float:
        """λ of the missed lesions: without a word of its own, that of the regions."""
        own = self.missed.weight
        return self.region_count.weight if own is None else own


class TrainConfig(Section):
    """How the network is fitted."""

    patch: Shape = Field((48, 48, 48), description="voxels along R, A, S (2-D: within the slice)")
    batch: Annotated[int, Field(gt=0)] = Field(4, description="patches per step")
    epochs: Annotated[int, Field(gt=0)] = Field(20, description="epochs")
    steps_per_epoch: Annotated[int, Field(gt=0)] = Field(50, description="steps per epoch")
    steps: Annotated[int, Field(gt=0)] | None = Field(
        None,
        description="steps in all, the last epoch the shorter one; null: epochs of steps_per_epoch",
    )
    budget: Duration | None = Field(
        None,
        description="time for fitting, such as 30min or 1h30min: the number of steps follows from "
        "the measured time of one, instead of epochs and steps; null: off",
    )
    foreground: Probability = Field(
        0.5,
        description="share of the patches drawn around a foreground voxel, of cases that have one",
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd: Nesterov, momentum 0.99")
    learning_rate: Positive = Field(2e-3, description="after warm-up")
    warmup: Probability = Field(0.05, description="share of the steps with rising learning rate")
    schedule: Literal["poly", "cosine", "constant"] = Field("poly", description="after warm-up")
    weight_decay: NonNegative = Field(
        1e-4, description="decoupled: each step takes this share, times the learning rate"
    )
    clip_norm: NonNegative = Field(1.0, description="global gradient norm limit; 0: none")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="decay of the average of the weights, used in validations and in the bundle; "
        "early it covers the latest tenth of the steps; 0: none",
    )
    seed: Seed = Field(0, description="of weights, sampling and augmentation")
    workers: Annotated[int, Field(ge=0)] = Field(
        1, description="loading threads; 0 loads in the training thread; no effect on results"
    )
    memory_mb: NonNegative = Field(
        4000.0, description="prepared training voxels kept in memory; the rest is read by patch"
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "auto",
        description="auto: bfloat16 where the device computes it, else float16 on a GPU and "
        "float32 on a CPU",
    )
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto: a GPU if present")
    deterministic: bool | None = Field(
        None, description="bitwise repeatable; null: yes on a CPU, no on a GPU (it costs XLA)"
    )
    validate_every: Annotated[int, Field(ge=0)] = Field(
        5, description="epochs between full-volume validations; 0: only after the last epoch"
    )
    monitor: Literal["dice", "lesion_f1"] = Field("dice", description="validation metric watched")
    patience: Annotated[int, Field(ge=0)] = Field(
        0, description="stop after so many validations without improvement; 0: never"
    )
    keep: Literal["last", "best"] = Field(
        "last", description="weights in the bundle: the last, or those with the best monitor"
    )
    init: str | None = Field(None, description="bundle (folder or models:/…) to start from")

    @property
    def total_steps(self) -> int:
        """Steps in all, where no budget decides."""
        return self.steps or self.epochs * self.steps_per_epoch

    @property
    def chooses_weights(self) -> bool:
        """Whether validations decide which weights are kept, or when to stop: one alone cannot."""
        epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        several = self.budget is not None or epochs > self.validate_every
        return (self.keep == "best" or self.patience > 0) and self.validate_every > 0 and several

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds; None where it is off."""
        return None if self.budget is None else parse_duration(self.budget)

    @field_validator("budget")
    @classmethod
    def _one_length(cls, budget: str | None, info: ValidationInfo) -> str | None:
        if budget is not None and info.data.get("steps") is not None:
            raise ValueError("expected null beside steps, which says the length already")
        return budget
