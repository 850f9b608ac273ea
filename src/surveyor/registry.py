"""Things by name, to which users add their own: by an entry point of a package, or by import path."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from surveyor.errors import ConfigError

Thing = TypeVar("Thing")


class Registry(dict[str, Thing]):
    """Name → thing.

    Args:
        own: those of this package.
        group: entry points in which installed packages announce theirs; `module:Name` needs no announcement.
        base: a class that all of them are of.
    """

    def __init__(self, own: Mapping[str, Thing], group: str, base: type | None = None) -> None:
        super().__init__(own)
        self.group = group
        self.base = base

    def find(self, name: str, place: str) -> Thing:
        """The thing of that name, which is then in the registry.

        Args:
            place: option or key that names it, for the message.

        Raises:
            ConfigError: there is none; with the closest name.
        """
        if not isinstance(name, str):
            raise ConfigError(f"{place} is {name!r}", expected="a name, or the import path module:Name")
        if name not in self:
            announced = self._announced()
            if name not in announced and ":" not in name:
                check_name(name, [*self.names(), "module:Name"], place)
            entry = announced.get(name, EntryPoint(name, name, self.group))
            self[name] = self._loaded(entry, f"{place} = {name!r}")
        return self[name]

    def names(self) -> list[str]:
        """Those that are known by a name, announced ones among them."""
        return list(dict.fromkeys([*self, *self._announced()]))

    def _announced(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}

    def _loaded(self, entry: EntryPoint, place: str) -> Thing:
        try:
            thing: Thing = entry.load()
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"{place} cannot be imported: {type(error).__name__}: {error}",
                expected="the import path module:Name of something that is installed, or on PYTHONPATH",
                todo="check the spelling, and that its package is installed in this environment",
            ) from error
        if self.base is not None and not (isinstance(thing, type) and issubclass(thing, self.base)):
            raise ConfigError(f"{place} is {thing!r}", expected=f"a class derived from {self.base.__name__}")
        try:
            inspect.signature(thing)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{place} is {thing!r}", expected="a class or function of one's own") from error
        return thing


def check_name(name: str, known: Collection[str], place: str) -> None:
    """Raise ConfigError, with the closest name, if it is none of those that are known."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(
            f"{place} = {name!r}",
            expected="one of " + ", ".join(known),
            todo=f"did you mean '{near[0]}'?" if near else None,
        )
