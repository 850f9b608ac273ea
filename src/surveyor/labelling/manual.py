"""Labels that people compute elsewhere: the campaign stops for them and goes on when they are back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ase import Atoms

from surveyor.errors import SurveyorError
from surveyor.types import Failure, Labels


class LabelsAwaitedError(SurveyorError):
    """Structures wait for labels from elsewhere; no mistake, but nothing goes on without them.

    Args:
        n: how many.
        folder: of the campaign.
    """

    def __init__(self, n: int, folder: Path) -> None:
        self.n = n
        super().__init__(
            f"{n} structures wait for labels",
            expected="labels from elsewhere: this campaign says labels: calculator: manual",
            todo=f"surveyor label export {folder} BATCH, compute them, "
            "surveyor label collect BATCH RESULTS, and run the same command again",
        )


def manual_method(description: str) -> str:
    """File-name-safe name of a method that people describe in their own words."""
    short = re.sub(r"[^A-Za-z0-9.+-]+", "-", description).strip("-")[:40]
    digest = hashlib.sha256(description.encode()).hexdigest()[:8]
    return "-".join(filter(None, ("manual", short, digest)))


class ManualLabeller:
    """A labeller that has no labels of its own.

    Args:
        description: the method, in the words of those who compute.
        folder: of the campaign, for the message.
    """

    def __init__(self, description: str, folder: Path) -> None:
        self.method = manual_method(description)
        self._folder = folder

    def __call__(self, todo: Mapping[str, Atoms]) -> Iterator[tuple[str, Labels | Failure]]:
        """Nothing to yield.

        Raises:
            LabelsAwaitedError: there is something to do.
        """
        if todo:
            raise LabelsAwaitedError(len(todo), self._folder)
        return iter(())
