"""Configuration: YAML → frozen specs → objects."""

from surveyor.config.build import (
    build_features,
    build_labeller,
    build_plan,
    build_rule,
    calculator_spec,
)
from surveyor.config.labels import load_labels
from surveyor.config.loading import load_campaign, resolved_yaml
from surveyor.config.registries import (
    FEATURES,
    GEOMETRIC,
    check_aim,
    check_committee,
    check_name,
    check_price,
)
from surveyor.config.schema import (
    CampaignConfig,
    ControlConfig,
    FeatureConfig,
    LabelConfig,
    SelectionConfig,
    StopConfig,
    TrainingConfig,
)

__all__ = [
    "FEATURES",
    "GEOMETRIC",
    "CampaignConfig",
    "ControlConfig",
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
    "check_aim",
    "check_committee",
    "check_name",
    "check_price",
    "load_campaign",
    "load_labels",
    "resolved_yaml",
]
