"""What a campaign is at now, in a file that others can read while it works."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from surveyor.campaign.records import read_json
from surveyor.errors import SurveyorError
from surveyor.progress import Progress, Stage
from surveyor.structures.writing import write_json

PROGRESS = "progress.json"
SECONDS = 2.0
"""Least time from one writing to the next."""


class Standing:
    """Progress that is also kept in the campaign's folder, for `surveyor status`."""

    def __init__(self, progress: Progress, folder: Path) -> None:
        self._progress = progress
        self._path = folder / PROGRESS
        self._stage: Stage | None = None

    def start(self, what: str, total: int | None = None) -> None:
        self._progress.start(what, total)
        self._stage = Stage(what, total=total, since=time.time())
        self._keep(at_once=True)

    def advance(self, steps: int = 1) -> None:
        self._progress.advance(steps)
        if self._stage is not None:
            self._stage.done += steps
            self._keep()

    def at(self, done: int, total: int, note: str = "") -> None:
        self._progress.at(done, total, note)
        if self._stage is not None:
            self._stage.move(done, total, note, time.time())
            self._keep()

    def finish(self, outcome: str = "") -> None:
        self._progress.finish(outcome)
        self._stage = None
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _keep(self, at_once: bool = False) -> None:
        stage, now = self._stage, time.time()
        if stage is None or not (at_once or abs(now - stage.at) >= SECONDS):
            return
        stage.at = now
        with contextlib.suppress(SurveyorError):  # the work is worth more than the news of it
            write_json(self._path, asdict(stage))


def read_stage(folder: Path) -> Stage | None:
    """The stage that a campaign said last that it is at; None where it is at none, or cannot be read."""
    try:
        found: Any = read_json(folder / PROGRESS)
        total = None if found["total"] is None else int(found["total"])
        times = float(found["since"]), float(found["at"])
        return Stage(str(found["what"]), int(found["done"]), total, str(found["note"]), *times)
    except (SurveyorError, KeyError, TypeError, ValueError):
        return None
