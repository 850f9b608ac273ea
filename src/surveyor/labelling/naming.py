"""What really computes: the distribution and version of the code, or the content of a local file."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = 2000
"""Files of a local package that are looked at, at most."""


def checksum(path: Path) -> str:
    """SHA-256 of a file's content."""
    state = path.stat()
    return _checksum(path, state.st_size, state.st_mtime_ns, state.st_ino)


@functools.lru_cache(maxsize=1024)
def _checksum(path: Path, _size: int, _time: int, _inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def origins(thing: object) -> list[tuple[str, str]]:
    """Whose code a class or function is, the most specific first.

    A class that belongs to no installed distribution is known by the content of its file (of all files, in a
    package), and so are its bases; the first base that is installed ends the list.

    Returns:
        (distribution, version), or (module, the first digits of its SHA-256).
    """
    found: list[tuple[str, str]] = []
    for part in _bases(thing):
        module = sys.modules.get(str(getattr(part, "__module__", "")))
        installed = None if module is None else _distribution(module)
        origin = installed or _content(module)
        if origin not in found:
            found.append(origin)
        if installed:
            break
    return found


def _bases(thing: object) -> list[object]:
    return [base for base in thing.__mro__ if base is not object] if isinstance(thing, type) else [thing]


def _distribution(module: ModuleType) -> tuple[str, str] | None:
    """Name and version of the installed distribution in which the module's file lies."""
    file = getattr(module, "__file__", None)
    return None if file is None else _owner(module.__name__.partition(".")[0], Path(file).resolve())


@functools.lru_cache(maxsize=256)
def _owner(top: str, file: Path) -> tuple[str, str] | None:
    for name in _candidates(top):
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if _holds(distribution, top, file):
            return distribution.metadata["Name"], distribution.version
    return None


def _candidates(top: str) -> Iterator[str]:
    yield top  # the usual case, and much the faster one
    yield from importlib.metadata.packages_distributions().get(top, [])


def _holds(distribution: importlib.metadata.Distribution, top: str, file: Path) -> bool:
    root = Path(str(distribution.locate_file(""))).resolve()
    if not file.is_relative_to(root):
        return False
    inside = file.relative_to(root)
    if distribution.files is None:  # packages of a system may keep no list
        return inside.parts[0].partition(".")[0] == top
    return inside.as_posix() in _files(distribution.metadata["Name"], root)


@functools.lru_cache(maxsize=32)
def _files(name: str, _root: Path) -> frozenset[str]:
    return frozenset(path.as_posix() for path in importlib.metadata.distribution(name).files or [])


def _content(module: ModuleType | None) -> tuple[str, str]:
    """A local module, or the whole local package that it lies in, by its content."""
    if module is None:
        return "local", "unversioned"
    top = module.__name__.partition(".")[0]
    folder = getattr(sys.modules.get(top), "__path__", None)
    file = getattr(module, "__file__", None)
    files = [Path(file)] if file else []
    if folder:
        files = sorted(path for place in folder for path in Path(place).rglob("*.py"))[:MODULES]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {checksum(path)}\n".encode())
    return top, digest.hexdigest()[:12] if files else "unversioned"


def by_content(settings: Any, key: str = "") -> Any:
    """Settings with a checksum in the place of every file that they name, however deep."""
    if isinstance(settings, Mapping):
        return {str(name): by_content(value, str(name)) for name, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [by_content(value, key) for value in settings]
    path = named_path(settings, key)
    return {"sha256": checksum(path)} if path is not None and path.is_file() else settings


def absolute(settings: Any, key: str = "") -> Any:
    """Settings whose relative paths, as far as there is such a file or folder, start at the root."""
    if isinstance(settings, Mapping):
        return {name: absolute(value, str(name)) for name, value in settings.items()}
    if isinstance(settings, list | tuple):
        return type(settings)([absolute(value, key) for value in settings])
    path = named_path(settings, key)
    return settings if path is None else type(settings)(path.absolute())


_WRITTEN = re.compile(
    r"(?:^|_)(?:log|txt|std)?_?(?:log|txt|out|output|err|traj|trajectory|tmp|scratch|cache)"
    r"_?(?:file|path|dir|folder|name)?$",
    re.IGNORECASE,
)
"""Keys of what a calculation writes: its content decides nothing, and it belongs into the scratch folder."""

_OF_PATHS = re.compile("model|file|path|dir|folder|potential|param", re.IGNORECASE)


def named_path(value: object, key: str = "") -> Path | None:
    """The file or folder that a setting names, where there is one.

    A bare word, such as `pbe`, names one only where its key speaks of files: a functional is no folder that
    happens to bear its name. What a calculation writes, such as its log, is none of its inputs.
    """
    if _WRITTEN.search(key):
        return None
    if not isinstance(value, Path) and not (isinstance(value, str) and 0 < len(value) < 4096):
        return None
    if not re.search(r"[./\\]", str(value)) and not _OF_PATHS.search(key):
        return None
    try:
        return Path(value) if Path(value).exists() else None
    except (OSError, ValueError):  # no name that a file could have
        return None
