"""Labels that did not come, labels that were set aside, and what a person should know about a round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from surveyor.labelling.scratch import FILES
from surveyor.report.contents import Contents


@dataclass(frozen=True)
class MissingLabel:
    """A structure that is not trained on: its label failed, or is in quarantine."""

    id: str
    round: int | None
    attempts: int
    reason: str


@dataclass(frozen=True)
class Trouble:
    """Failures and quarantined labels, one by one and by reason; notes of the rounds."""

    failed: tuple[MissingLabel, ...]
    reasons: tuple[tuple[str, int], ...]
    held: tuple[MissingLabel, ...]
    quarantined: tuple[tuple[str, int], ...]
    notes: tuple[tuple[int, str], ...]

    @property
    def n_quarantined(self) -> int:
        return sum(count for _, count in self.quarantined)

    @property
    def any(self) -> bool:
        return bool(self.failed or self.quarantined or self.notes)


def trouble_of(contents: Contents) -> Trouble:
    """Most frequent reasons first."""
    rounds = {pick.id: pick.round for pick in contents.picks}
    failed = tuple(
        MissingLabel(name, rounds.get(name), len(why), why[-1]) for name, why in contents.failures.items()
    )
    held = tuple(MissingLabel(name, rounds.get(name), 1, why) for name, why in contents.quarantined.items())
    quarantined = Counter(label.reason for label in held) or _counted(contents.metrics)
    return Trouble(
        failed=failed,
        reasons=tuple(Counter(label.reason.partition(FILES)[0] for label in failed).most_common()),
        held=held,
        quarantined=tuple(quarantined.most_common()),
        notes=tuple(
            (metrics["number"], note) for metrics in contents.metrics for note in metrics.get("notes") or ()
        ),
    )


def _counted(rounds: tuple[Mapping[str, Any], ...]) -> Counter[str]:
    """Quarantined labels as the rounds count them, where the journal names none."""
    found: Counter[str] = Counter()
    for metrics in rounds:
        counts = metrics.get("quarantined") or {}
        found.update(dict(counts) if isinstance(counts, Mapping) else {"suspicious": int(counts)})
    return found
