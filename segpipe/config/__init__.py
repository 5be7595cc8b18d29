"""The configuration: frozen pydantic models, and how they are read."""

from segpipe.config.anatomy import AnatomyConfig, RegionConfig, RegistrationConfig
from segpipe.config.load import (
    data_config,
    describe,
    digest,
    digest_values,
    dump,
    flat_values,
    load,
    override,
    parse,
    stated,
)
from segpipe.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    PrepareConfig,
    SplitConfig,
)
from segpipe.config.scoring import CertifyConfig, EvaluateConfig, OperatingPoint, PredictConfig
from segpipe.config.tracking import CardConfig, TrackingConfig
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
    "CardConfig",
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
    "digest_values",
    "dump",
    "flat_values",
    "load",
    "override",
    "parse",
    "stated",
]
