"""Progress at the terminal: bars for a person, plain lines for a log."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from surveyor.cli.console import plain_console
from surveyor.progress import Progress as ProgressProtocol
from surveyor.progress import Stage

FIRST_SECONDS, LINE_SECONDS = 0.5, 30.0
"""When a log has the first line of a stage that goes on for so long, and how often it has another."""


def make_progress() -> ProgressProtocol:
    """A bar on a terminal, lines elsewhere; on standard error, so that results can be piped."""
    console = plain_console(stderr=True)
    return Bars(console) if console.is_terminal else Lines(console)


class _Bar(Progress):
    """A bar, and a line under it."""

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.note:
            yield Text(f"  {self.note}", overflow="ellipsis", no_wrap=True)


class Bars:
    """One rich bar a stage."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: _Bar | None = None

    def start(self, what: str, total: int | None = None) -> None:
        self.finish()
        self._bar = _Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
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

    def at(self, done: int, total: int, note: str = "") -> None:
        if self._bar:
            self._bar.note = note
            self._bar.update(self._task, completed=done, total=total)

    def finish(self, outcome: str = "") -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
            _say_done(self._console, self._what, outcome, self._begin)


class Lines:
    """A line soon after a stage has begun, one every half minute while it runs, and one when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._over = threading.Event()
        self._over.set()

    def start(self, what: str, total: int | None = None) -> None:
        self.finish()
        self._begin = time.monotonic()
        self._stage = Stage(what, total=total, since=self._begin)
        self._over = threading.Event()
        threading.Thread(target=_speak, args=(weakref.ref(self), self._over), daemon=True).start()

    def advance(self, steps: int = 1) -> None:
        if not self._over.is_set():
            self._stage.done += steps

    def at(self, done: int, total: int, note: str = "") -> None:
        if not self._over.is_set():
            self._stage.move(done, total, note, time.monotonic())

    def say(self) -> None:
        """Where the stage stands, as a line."""
        self._stage.at = time.monotonic()
        self._console.print(str(self._stage), soft_wrap=True)

    def finish(self, outcome: str = "") -> None:
        if not self._over.is_set():
            self._over.set()
            _say_done(self._console, self._stage.what, outcome, self._begin)


def _speak(lines: weakref.ref[Lines], over: threading.Event) -> None:
    """Have lines said while the stage runs: a thread, since the work itself may not look up for hours."""
    wait = FIRST_SECONDS
    while not over.wait(wait) and (open_lines := lines()) is not None:
        open_lines.say()
        del open_lines  # where the command failed, nobody else holds it: then this ends as well
        wait = LINE_SECONDS


def _say_done(console: Console, what: str, outcome: str, begin: float) -> None:
    seconds = time.monotonic() - begin
    if seconds >= 2 or outcome:
        note = f" ({outcome})" if outcome else ""
        console.print(f"{what}{note}: {seconds:.1f} s", highlight=False)
