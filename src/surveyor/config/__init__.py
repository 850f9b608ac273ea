"""Configuration: YAML → frozen specs → objects."""

from surveyor.config.build import (
    build_features,
    build_labeller,
    build_plan,
    build_rule,
    calculator_spec,
)
from surveyor.config.loading import load_campaign, resolved_yaml
from surveyor.config.registries import AIMS, FEATURES, RULES
from surveyor.config.schema import (
    CampaignConfig,
    FeatureConfig,
    LabelConfig,
    SelectionConfig,
    StopConfig,
    TrainingConfig,
)

__all__ = [
    "AIMS",
    "FEATURES",
    "RULES",
    "CampaignConfig",
    "FeatureConfig",
    "LabelConfig",
    "SelectionConfig",
    "StopConfig",
    "TrainingConfig",
    "build_features",
    "build_labeller",
    "build_plan",
    "build_rule",
    "calculator_spec",
    "load_campaign",
    "resolved_yaml",
]
