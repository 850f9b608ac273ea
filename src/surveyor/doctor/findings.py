"""What a check says: a verdict, and in the table a finding about one subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from surveyor.errors import SurveyorError
from surveyor.types import IndexArray


class Level(StrEnum):
    """How bad it is; `NOT_CHECKED` says that there was nothing to check it on."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check: what was found and, where it is not well, what to do."""

    level: Level
    found: str
    todo: str = ""


@dataclass(frozen=True)
class Finding:
    """A verdict in its place in the table."""

    subject: str
    check: str
    verdict: Verdict

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"subject": self.subject, "check": self.check, **asdict(self.verdict)}


def ok(found: str) -> Verdict:
    return Verdict(Level.OK, found)


def warning(found: str, todo: str) -> Verdict:
    return Verdict(Level.WARNING, found, todo)


def error(found: str, todo: str) -> Verdict:
    return Verdict(Level.ERROR, found, todo)


def fault(problem: SurveyorError) -> Verdict:
    """An error of the program as a verdict."""
    expected = f"expected: {problem.expected}" if problem.expected else ""
    return error(problem.got, problem.todo or expected)


def not_checked(why: str) -> Verdict:
    return Verdict(Level.NOT_CHECKED, why)


def worst(findings: Sequence[Finding]) -> Level:
    """The worst level that occurs."""
    levels = {finding.verdict.level for finding in findings}
    for level in (Level.ERROR, Level.WARNING):
        if level in levels:
            return level
    return Level.OK


SHOWN = 5


def frames_text(frames: Sequence[int] | IndexArray | NDArray[np.bool_]) -> str:
    """`frames 3, 7 and 12 more`, from positions or from a mask."""
    numbers = np.asarray(frames)
    if numbers.dtype == bool:
        numbers = np.flatnonzero(numbers)
    first = ", ".join(str(number) for number in numbers[:SHOWN])
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return f"frame{'s' if len(numbers) > 1 else ''} {first}{more}"
