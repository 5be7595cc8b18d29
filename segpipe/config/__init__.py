"""The configuration: frozen pydantic models, and how they are read."""

from segpipe.config.load import data_config, describe, digest, digest_values, dump, load, parse
from segpipe.config.schema import (
    AnatomyConfig,
    AugmentConfig,
    CertifyConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    OperatingPoint,
    PredictConfig,
    PrepareConfig,
    RegionConfig,
    SplitConfig,
    TrackingConfig,
)
from segpipe.config.training import (
    LossConfig,
    MissedConfig,
    ModelConfig,
    RegionCountConfig,
    TrainConfig,
    VoxelCountConfig,
)

__all__ = [
    "AnatomyConfig",
    "AugmentConfig",
    "CertifyConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "LossConfig",
    "MissedConfig",
    "ModelConfig",
    "OperatingPoint",
    "PredictConfig",
    "PrepareConfig",
    "RegionConfig",
    "RegionCountConfig",
    "SplitConfig",
    "TrackingConfig",
    "TrainConfig",
    "VoxelCountConfig",
    "data_config",
    "describe",
    "digest",
    "digest_values",
    "dump",
    "load",
    "parse",
]
