"""A campaign keeps the configuration that it was started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from surveyor.config.loading import resolved_yaml
from surveyor.config.schema import CampaignConfig
from surveyor.errors import CampaignError
from surveyor.specs import parse_yaml, read_yaml, validate
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
    "device",
)
"""Settings that change how far or how fast a campaign goes, not what it means."""


def keep_config(config: CampaignConfig, folder: Path) -> None:
    """Write `config.yaml` into a new campaign; in an old one, check that nothing that matters changed.

    Raises:
        CampaignError: a setting differs from the one that the campaign was started with.
    """
    path = folder / "config.yaml"
    text = resolved_yaml(config)
    if path.exists():
        # Through the schema: a setting that is newer than the campaign had its default then.
        started = validate(CampaignConfig, read_yaml(path), path)
        before, now = (_flat(parse_yaml(content, str(path))) for content in (resolved_yaml(started), text))
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
    atomic_write(path, lambda file: file.write(text))


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
