"""YAML files checked against frozen schemas."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from surveyor.errors import ConfigError

Config = TypeVar("Config", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        ConfigError: missing file, malformed YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror or error}", expected="a YAML file", todo="check the path"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}", expected="`key: value` lines") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds a {type(content).__name__}", expected="a mapping of keys to values (pool: …)"
        )
    return content


def validate(schema: type[Config], content: dict[str, Any], path: Path) -> Config:
    """Check a mapping against a schema.

    Raises:
        ConfigError: names the first key that is wrong, and the closest valid one.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        # A misspelt key also makes its right spelling missing: name the mistake, not its consequence.
        first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            keys = _keys_at(schema, first["loc"][:-1])
            near = difflib.get_close_matches(str(first["loc"][-1]), keys, n=1, cutoff=0.5)
            raise ConfigError(
                f"{path.name}: unknown key '{place}'",
                expected="one of " + ", ".join(keys),
                todo=f"did you mean '{near[0]}'?" if near else "take the key out",
            ) from error
        if first["type"] == "missing":
            raise ConfigError(f"{path.name}: the key '{place}' is missing", expected=f"{place}: …") from error
        value = f"{place} = {first['input']!r}: " if place else ""  # no place: two keys that do not fit
        raise ConfigError(f"{path.name}: {value}{first['msg']}", todo="correct the value") from error


def _keys_at(schema: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    kinds: list[type[BaseModel]] = []  # of a section that comes in kinds: the next part names one
    for part in location:
        if kinds:
            schema = next(kind for kind in kinds if part in get_args(kind.model_fields["kind"].annotation))
            kinds = []
            continue
        annotation = schema.model_fields[str(part)].annotation
        models = [
            k for k in (annotation, *get_args(annotation)) if isinstance(k, type) and issubclass(k, BaseModel)
        ]
        if len(models) == 1:  # Key, or Key | None
            schema = models[0]
        else:
            kinds = models
    return list(schema.model_fields)
