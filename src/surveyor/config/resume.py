"""A campaign keeps the configuration that it was started with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from surveyor.config.schema import CampaignConfig
from surveyor.errors import CampaignError
from surveyor.specs import read_yaml, validate
from surveyor.structures.writing import atomic_write

MAY_CHANGE = (
    "stop",
    "engine",
    "labels.processes",
    "labels.time_limit",
    "labels.retries",
    "labels.retry_wait",
    "labels.minimum",
    "labels.settings.time_limit",
    "labels.settings.scratch",
    "labels.settings.keep",
    "training.threads",
    "training.command.time_limit",
    "device",
    "python",
)
"""Settings that change how far or how fast a campaign goes, not what it means."""


BY_CONTENT = ("pool", "start", "test", "target", "forgetting", "training.replay")
"""Files that the campaign itself knows by what stands in them: here it matters only whether there is one."""


def check_config(config: CampaignConfig, folder: Path) -> None:
    """Check that nothing that matters changed since the campaign was started, if it was.

    Where files lie does not matter: the campaign compares what stands in them, and the potential's weights.

    Raises:
        CampaignError: a setting differs from the one that the campaign was started with.
    """
    path = folder / "config.yaml"
    if not path.exists():
        return
    # Through the schema: a setting that is newer than the campaign had its default then.
    started = validate(CampaignConfig, read_yaml(path), path)
    before, now = _meaning(started), _meaning(config)
    changed = [
        key
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
        and not any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)
    ]
    if changed:
        key = changed[0]
        raise CampaignError(
            f"the campaign {folder} was started with {key}: {before.get(key)!r}, "
            f"the file now says {now.get(key)!r}"
            + (f" (and {len(changed) - 1} more differences)" if len(changed) > 1 else ""),
            expected="the same settings; only " + ", ".join(MAY_CHANGE) + " may change",
            todo="restore the setting, or start another campaign with -o NEW_FOLDER",
        )


def keep_config(config: CampaignConfig, folder: Path) -> None:
    """Check the configuration, and write it to `config.yaml`.

    Files beside the campaign's folder, or below, are written relative to it, so that the whole may be moved.

    Raises:
        CampaignError: a setting differs from the one that the campaign was started with.
    """
    check_config(config, folder)
    content = config.model_dump(mode="json")
    for keys in (*((key,) for key in BY_CONTENT[:-1]), ("model",), ("python",), ("training", "replay")):
        section = content if len(keys) == 1 else content[keys[0]]
        section[keys[-1]] = _portable(section[keys[-1]], folder.resolve())
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    atomic_write(folder / "config.yaml", lambda file: file.write(text))


def _portable(value: Any, folder: Path) -> Any:
    """An absolute path that lies beside or below the folder, relative to it; anything else as it is."""
    if isinstance(value, str) and Path(value).is_absolute() and Path(value).is_relative_to(folder.parent):
        return os.path.relpath(value, folder)
    return value


def _meaning(config: CampaignConfig) -> dict[str, Any]:
    """Key → value, with files that are known by content reduced to whether there is one."""
    flat = _flat(config.model_dump(mode="json"))
    for key in BY_CONTENT:
        if flat.get(key) not in (None, False):
            flat[key] = "a file"
    flat.pop("model")  # known by its weights
    flat.pop("training.recipe")  # known by what it sets
    for key in ("labels.settings.command", "training.command.command"):
        command = flat.get(key)
        if isinstance(command, list) and command:  # where a program lies does not matter
            flat[key] = [Path(str(command[0])).name, *command[1:]]
    return flat


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
