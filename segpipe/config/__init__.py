"""The configuration: frozen pydantic models, and how they are read."""

from segpipe.config.anatomy import AnatomyConfig, RegionConfig, RegistrationConfig
from segpipe.config.load import data_config, describe, digest, dump, load, parse
from segpipe.config.schema import (
    AugmentConfig,
    CertifyConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    OperatingPoint,
    PredictConfig,
    PrepareConfig,
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
    "RegistrationConfig",
    "SplitConfig",
    "TrackingConfig",
    "TrainConfig",
    "VoxelCountConfig",
    "data_config",
    "describe",
    "digest",
    "dump",
    "load",
    "parse",
]
