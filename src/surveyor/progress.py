"""How long work tells a person where it stands; the command line draws it, the library does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from surveyor.types import Trainer


class Progress(Protocol):
    """One stage at a time: start, advance by steps or say where it is, finish."""

    def start(self, what: str, total: int | None = None) -> None: ...
    def advance(self, steps: int = 1) -> None: ...
    def at(self, done: int, total: int, note: str = "") -> None: ...
    def finish(self, outcome: str = "") -> None: ...


class Silent:
    """Says nothing."""

    def start(self, what: str, total: int | None = None) -> None: ...
    def advance(self, steps: int = 1) -> None: ...
    def at(self, done: int, total: int, note: str = "") -> None: ...
    def finish(self, outcome: str = "") -> None: ...


OnStep = Callable[[int, int, str], None]
"""Told how far long work is: steps done, of how many, and what else there is to say (or an empty text)."""


@runtime_checkable
class Telling(Trainer, Protocol):
    """A trainer that can tell how far it is; others need not."""

    def telling(self, on_step: OnStep) -> Trainer:
        """The same trainer, which calls `on_step` while it works."""


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    shown, unit = seconds / 60, "min"
    for size, larger in ((60, "h"), (24, "days")):
        if shown >= 100:
            shown, unit = shown / size, larger
    return f"{shown:.1f} {unit}"


def seconds_left(seconds: float, done: int, total: int | None) -> float | None:
    """At the rate of the steps so far, that took so many seconds; None where nothing tells."""
    return seconds * (total / done - 1) if total and 0 < done <= total else None


def in_words(what: str, done: int, total: int | None, note: str, seconds: float) -> str:
    """A stage that runs: how far it is, and the time left at the rate so far.

    Args:
        seconds: since it began to count.
    """
    left = seconds_left(seconds, done, total)
    parts = [
        (f"{done} of {total}" if total else f"{done}") if done else f"since {duration(round(seconds))}",
        "" if left is None else f"about {duration(round(left))} left",
        note,
    ]
    return f"{what}: " + ", ".join(filter(None, parts))


@dataclass
class Stage:
    """Where a stage stands.

    | field | meaning                                     | unit |
    |-------|---------------------------------------------|------|
    | what  | what is done                                |      |
    | done  | steps done                                  |      |
    | total | steps there are; None: not known            |      |
    | note  | what else there is to say                   |      |
    | since | time at which the steps began to count      | s    |
    | at    | time of the last look, of the same clock    | s    |
    """

    what: str
    done: int = 0
    total: int | None = None
    note: str = ""
    since: float = 0.0
    at: float = 0.0

    def move(self, done: int, total: int, note: str, now: float) -> None:
        """Say where it is; it counts anew where there are other steps, or fewer are done."""
        if total != self.total or done < self.done:
            self.since = now
        self.done, self.total, self.note = done, total, note

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far, when it was looked at; None: not known."""
        return seconds_left(self.at - self.since, self.done, self.total)

    def __str__(self) -> str:
        return in_words(self.what, self.done, self.total, self.note, self.at - self.since)
