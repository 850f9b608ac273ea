"""Every error that Surveyor raises on purpose: what was got, what was expected, what to do."""

from __future__ import annotations

import warnings
from collections.abc import Hashable


class SurveyorError(Exception):
    """A problem that the user can mend; the command line prints it alone and exits with 2.

    Args:
        got: what was found, with its place (file, frame, key).
        expected: what would have been right.
        todo: the next thing to do about it.
    """

    def __init__(self, got: str, *, expected: str | None = None, todo: str | None = None) -> None:
        self.got = got
        self.expected = expected
        self.todo = todo
        lines = [got]
        if expected:
            lines.append(f"  expected: {expected}")
        if todo:
            lines.append(f"  to do:    {todo}")
        super().__init__("\n".join(lines))


class StructureError(SurveyorError):
    """A file or frame of structures cannot be used."""


class PotentialError(SurveyorError):
    """A potential cannot be opened, or does not know what it is asked about."""


class FeatureError(SurveyorError):
    """Feature rows are missing, not finite, or of another width than expected."""


class SelectionError(SurveyorError):
    """A selection was asked for that cannot be made."""


class LabellingError(SurveyorError):
    """The labelling method itself cannot work (a single failed label is a `Failure` instead)."""


class TrainingError(SurveyorError):
    """Training cannot start, or ended without a usable potential."""


class CampaignError(SurveyorError):
    """A campaign folder is locked, damaged, or at odds with its configuration."""


class ConfigError(SurveyorError):
    """A configuration file has an unknown key, a wrong type or a missing value."""


class Notice(UserWarning):
    """Something that the user should know and that stops nothing; the command line prints it, once."""


def notice(text: str, about: Hashable | None = None) -> None:
    """Warn with a `Notice`; the same text is shown once a process.

    Args:
        text: what was found, with its place (file, frame, key), and what was done about it.
        about: of several notices about the same thing, only the first is shown; None: its text.
    """
    key = text if about is None else about
    if key not in said:
        said.add(key)
        warnings.warn_explicit(text, Notice, filename="surveyor", lineno=1)


said: set[Hashable] = set()
"""What was shown already; the registry of `warnings` forgets whenever a package changes a filter."""
