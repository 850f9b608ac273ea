"""From a YAML file to a checked configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from surveyor.config.labels import program_with_files, with_templates
from surveyor.config.registries import check_aim
from surveyor.config.schema import CampaignConfig
from surveyor.errors import ConfigError
from surveyor.features.registry import check_settings
from surveyor.selection import RULES, rules_that_take
from surveyor.specs import read_yaml, validate


def load_campaign(path: Path) -> CampaignConfig:
    """Read a campaign file; relative paths in it become absolute.

    Raises:
        ConfigError: the file is missing, not YAML, or a key is unknown or has a wrong value.
    """
    config = validate(CampaignConfig, _with_program(read_yaml(path), path.resolve().parent), path)
    check_settings(config.features.kind, config.features.settings, f"{path.name}: features")
    RULES.find(config.selection.rule, f"{path.name}: selection: rule")
    check_aim(config.selection.rule, config.target, f"{path.name}: ")
    rule = config.selection.rule
    if rule in rules_that_take("disagreement"):
        raise ConfigError(
            f"{path.name}: selection: rule = {rule!r}",
            expected="another rule: a campaign trains one potential a round, a committee needs several",
            todo=f"pick with `surveyor select --rule {rule}`, in your own loop",
        )
    base = path.resolve().parent
    updates: dict[str, Any] = {
        key: base / value
        for key in ("pool", "start", "test", "target")
        if (value := getattr(config, key)) is not None
    }
    if isinstance(config.forgetting, Path):
        updates["forgetting"] = base / config.forgetting
    if config.training.replay is not None:
        replay = base / config.training.replay
        updates["training"] = config.training.model_copy(update={"replay": replay})
    if config.python is not None:
        updates["python"] = base / config.python.expanduser()  # not resolved: the link tells the environment
    family, _, file = config.model.partition(":")
    if (base / config.model).is_file():
        updates["model"] = str(base / config.model)
    elif file and (base / file).is_file():
        updates["model"] = f"{family}:{base / file}"
    updates["labels"] = with_templates(config.labels, base)
    return config.model_copy(update=updates)


def _with_program(content: dict[str, Any], base: Path) -> dict[str, Any]:
    """The content of a campaign file with the files that its training program is made of."""
    training = content.get("training")
    command = training.get("command") if isinstance(training, dict) else None
    program = {"command": command} if isinstance(command, list) else command
    if not isinstance(training, dict) or not isinstance(program, dict):
        return content
    program = program_with_files(program, base, "training: command")
    return {**content, "training": {**training, "command": program}}


def resolved_yaml(config: CampaignConfig) -> str:
    """The whole configuration with its defaults, as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
