"""From a YAML file to a checked configuration."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from surveyor.config.registries import AIMS, FEATURES, RULES
from surveyor.config.schema import CampaignConfig
from surveyor.errors import ConfigError
from surveyor.specs import read_yaml, validate


def load_campaign(path: Path) -> CampaignConfig:
    """Read a campaign file; relative paths in it become absolute.

    Raises:
        ConfigError: the file is missing, not YAML, or a key is unknown or has a wrong value.
    """
    config = validate(CampaignConfig, read_yaml(path), path)
    known(config.features.kind, FEATURES, "features: kind", path)
    known(config.selection.rule, RULES, "selection: rule", path)
    if config.target is not None and config.selection.rule not in AIMS:
        raise ConfigError(
            f"{path.name}: target is given, but the rule {config.selection.rule!r} aims at nothing",
            expected="selection: {rule: target-variance}",
            todo="choose that rule, or take the target out",
        )
    base = path.resolve().parent
    updates: dict[str, Any] = {
        key: base / value
        for key in ("pool", "start", "test", "target")
        if (value := getattr(config, key)) is not None
    }
    if (base / config.model).is_file():
        updates["model"] = str(base / config.model)
    return config.model_copy(update=updates)


def resolved_yaml(config: CampaignConfig) -> str:
    """The whole configuration with its defaults, as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def known(name: str, registry: dict[str, Any], place: str, path: Path) -> None:
    """Raise ConfigError if a name is not in a registry."""
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=1)
        raise ConfigError(
            f"{path.name}: {place} = {name!r}",
            expected="one of " + ", ".join(registry),
            todo=f"did you mean '{near[0]}'?" if near else None,
        )
