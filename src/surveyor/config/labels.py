"""The `labels:` section: on its own, and with the template files that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surveyor.config.schema import LabelConfig
from surveyor.errors import ConfigError
from surveyor.specs import read_yaml, validate


def load_labels(path: Path) -> LabelConfig:
    """The labeller of a file: a campaign file, or one that holds what stands under its `labels:`.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or has a wrong value.
    """
    content = read_yaml(path)
    section = content.get("labels", content)
    if not isinstance(section, dict):
        raise ConfigError(f"{path.name}: labels is {section!r}", expected="calculator: …, settings: …")
    return with_templates(validate(LabelConfig, section, path), path.resolve().parent)


def with_templates(config: LabelConfig, base: Path) -> LabelConfig:
    """The section of a command labeller with the text of its template files, and its program's whole path.

    Args:
        base: where relative paths start.

    Raises:
        ConfigError: a template file cannot be read.
    """
    if config.calculator.lower() != "command":
        return config
    settings = program_with_files(config.settings, base, "labels: settings")
    return config.model_copy(update={"settings": settings})


def program_with_files(settings: Mapping[str, Any], base: Path, place: str) -> dict[str, Any]:
    """The unchecked settings of a program with the text of its template files, and its whole path.

    Raises:
        ConfigError: a template file cannot be read.
    """
    found = dict(settings)
    if isinstance(found.get("input"), dict):
        found["input"] = {
            name: _text(f"{place}: input: {name}", value, base) for name, value in found["input"].items()
        }
    command = found.get("command")
    if isinstance(command, list) and command and os.sep in str(command[0]):
        found["command"] = [str(base / str(command[0])), *command[1:]]
    return found


def _text(place: str, value: Any, base: Path) -> Any:
    """`{file: path}` becomes the text of that file; text stays."""
    if not isinstance(value, dict):
        return value
    if set(value) != {"file"}:
        raise ConfigError(
            f"{place} = {value!r}",
            expected="the text of a template, or {file: its path}",
        )
    path = base / str(value["file"])
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{place}: cannot read {path}: {error}",
            expected="a template file; relative paths start at the folder of this file",
        ) from error
