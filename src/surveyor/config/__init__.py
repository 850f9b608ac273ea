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
    check_aim,
    check_committee,
    check_price,
)
from surveyor.config.schema import (
    CampaignConfig,
    ControlConfig,
    FeatureConfig,
    LabelConfig,
    SelectionConfig,
    TrainingConfig,
)

__all__ = [
    "CampaignConfig",
    "ControlConfig",
    "FeatureConfig",
    "LabelConfig",
    "SelectionConfig",
    "TrainingConfig",
    "build_features",
    "build_labeller",
    "build_plan",
    "build_rule",
    "calculator_spec",
    "check_aim",
    "check_committee",
    "check_price",
    "load_campaign",
    "load_labels",
    "resolved_yaml",
]
