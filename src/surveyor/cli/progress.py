"""Progress at the terminal: bars for a person, plain lines for a log."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from surveyor.cli.console import plain_console
from surveyor.progress import Progress as ProgressProtocol

LINE_SECONDS = 10.0


def make_progress(quiet: bool = False) -> ProgressProtocol:
    """A bar on a terminal, lines elsewhere; on standard error, so that results can be piped."""
    console = plain_console(stderr=True)
    if quiet:
        return Lines(plain_console(stderr=True, quiet=True))
    return Bars(console) if console.is_terminal else Lines(console)


class Bars:
    """One rich bar a stage."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None

    def start(self, what: str, total: int | None = None) -> None:
        self.finish()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=total)
        self._what, self._begin = what, time.monotonic()
        self._bar.start()

    def advance(self, steps: int = 1) -> None:
        if self._bar:
            self._bar.advance(self._task, steps)

    def finish(self, outcome: str = "") -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
            _say_done(self._console, self._what, outcome, self._begin)


class Lines:
    """A line when a stage ends, and one every ten seconds while it runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open = False

    def start(self, what: str, total: int | None = None) -> None:
        self.finish()
        self._what, self._total, self._count, self._open = what, total, 0, True
        self._begin = self._said = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        if not self._open:
            return
        self._count += steps
        now = time.monotonic()
        if now - self._said >= LINE_SECONDS:
            self._said = now
            of = f" of {self._total}" if self._total else ""
            left = ""
            if self._total and self._count:
                left = f", {(now - self._begin) * (self._total / self._count - 1):.0f} s left"
            self._console.print(f"{self._what}: {self._count}{of}{left}", highlight=False)

    def finish(self, outcome: str = "") -> None:
        if self._open:
            self._open = False
            _say_done(self._console, self._what, outcome, self._begin)


def _say_done(console: Console, what: str, outcome: str, begin: float) -> None:
    seconds = time.monotonic() - begin
    if seconds >= 2 or outcome:
        note = f" ({outcome})" if outcome else ""
        console.print(f"{what}{note}: {seconds:.1f} s", highlight=False)
