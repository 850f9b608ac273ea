"""How long work tells a person where it stands; the command line draws it, the library does not."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One stage at a time: start, advance, finish."""

    def start(self, what: str, total: int | None = None) -> None: ...
    def advance(self, steps: int = 1) -> None: ...
    def finish(self, outcome: str = "") -> None: ...


class Silent:
    """Says nothing."""

    def start(self, what: str, total: int | None = None) -> None: ...
    def advance(self, steps: int = 1) -> None: ...
    def finish(self, outcome: str = "") -> None: ...


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    shown, unit = seconds / 60, "min"
    for size, larger in ((60, "h"), (24, "days")):
        if shown >= 100:
            shown, unit = shown / size, larger
    return f"{shown:.1f} {unit}"
