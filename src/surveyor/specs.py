"""YAML files checked against frozen settings."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from surveyor.errors import ConfigError

Config = TypeVar("Config", bound=BaseModel)


MAX_BYTES = 2**20
"""Of a YAML file; a campaign's has some kilobytes."""
MAX_NODES = 50_000
"""Values of a YAML file, where those under an alias count each time."""
MAX_DIGITS = 100
"""Of a whole number; YAML's `59:59:…` multiplies by 60 for every colon."""
MAX_DEPTH = 50
"""Of values within values."""


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        ConfigError: missing file, malformed YAML, or not a mapping; see `parse_yaml`.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a file", expected="a YAML file", todo="check the path")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ConfigError(
                f"{path}: {size:,} bytes", expected=f"a YAML file of at most {MAX_BYTES:,} bytes"
            )
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror or error}", expected="a YAML file", todo="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not YAML: {error}", expected="text in UTF-8", todo="save the file in UTF-8"
        ) from error
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds a {type(content).__name__}", expected="a mapping of keys to values (pool: …)"
        )
    return content


def parse_yaml(text: str, where: str) -> Any:
    """The value that a YAML text stands for.

    Args:
        where: file or option, for the message.

    Raises:
        ConfigError: malformed YAML, a key that stands twice, values nested deeper than 50 or more than 50,000
            of them once aliases are written out, an alias within what it stands for.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node, where)
        return loader.construct_document(node)
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError(
            f"{where}: values nested too deeply", expected=f"at most {MAX_DEPTH} levels"
        ) from error
    # The constructors of dates and numbers raise whatever Python does for a value that is none.
    except Exception as error:
        raise ConfigError(f"{where} is not YAML: {error}", expected="`key: value` lines") from error


def _check_nodes(root: yaml.Node, where: str) -> None:
    """Count the values with aliases written out, before anything is made of them."""
    sizes: dict[int, int] = {}  # of nodes that are done; None of those entered is in it yet
    entered: set[int] = set()
    todo = [(root, 0)]
    while todo:
        node, depth = todo[-1]
        if id(node) in sizes:
            todo.pop()
            continue
        if depth > MAX_DEPTH:
            raise ConfigError(
                f"{where}{_line(node)}: values nested too deeply", expected=f"at most {MAX_DEPTH} levels"
            )
        parts = _parts(node)
        if id(node) not in entered:
            entered.add(id(node))
            if isinstance(node, yaml.MappingNode):
                _check_keys(node, where)
            if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
                raise ConfigError(
                    f"{where}{_line(node)}: a number of {len(node.value):,} characters ({node.value[:20]}…)",
                    expected=f"at most {MAX_DIGITS}",
                    todo="correct it, or put it in quotes if it is text",
                )
            for part in parts:
                if id(part) in entered and id(part) not in sizes:
                    raise ConfigError(
                        f"{where}{_line(part)}: an alias within what it stands for",
                        todo="write the value out",
                    )
                todo.append((part, depth + 1))
            continue
        sizes[id(node)] = 1 + sum(sizes[id(part)] for part in parts)
        if sizes[id(node)] > MAX_NODES:
            raise ConfigError(
                f"{where}{_line(node)}: more than {MAX_NODES:,} values once its aliases are written out",
                expected="a few values",
                todo="write out what is meant, without aliases of aliases",
            )


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.MappingNode, where: str) -> None:
    """YAML's reader would take the last of two equal keys, in silence."""
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise ConfigError(
                    f"{where}{_line(key)}: the key '{key.value[:80]}' stands there twice",
                    expected="every key once",
                    todo="take one of them out",
                )
            seen.add((key.tag, key.value))


def _line(node: yaml.Node) -> str:
    return f", line {node.start_mark.line + 1}"


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
    parts = iter(location)
    for part in parts:
        if kinds:
            schema = next(kind for kind in kinds if part in get_args(kind.model_fields["kind"].annotation))
            kinds = []
            continue
        if part not in schema.model_fields:  # which alternative of `Key | text` it is
            continue
        annotation = schema.model_fields[str(part)].annotation
        if get_origin(annotation) is dict:
            next(parts, None)  # the name of an entry
        models = [
            k for k in (annotation, *get_args(annotation)) if isinstance(k, type) and issubclass(k, BaseModel)
        ]
        if len(models) == 1:  # Key, or Key | None
            schema = models[0]
        else:
            kinds = models
    return list(schema.model_fields)
