"""Labels that did not come, and labels that were set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from surveyor.report.contents import Contents


@dataclass(frozen=True)
class FailedLabel:
    """A structure that has no label, with the reason of its last attempt."""

    id: str
    round: int | None
    attempts: int
    reason: str


@dataclass(frozen=True)
class Trouble:
    """Failures one by one and by reason, and quarantined labels by reason."""

    failed: tuple[FailedLabel, ...]
    reasons: tuple[tuple[str, int], ...]
    quarantined: tuple[tuple[str, int], ...]

    @property
    def n_quarantined(self) -> int:
        return sum(count for _, count in self.quarantined)


def trouble_of(contents: Contents) -> Trouble:
    """Most frequent reasons first."""
    rounds = {pick.id: pick.round for pick in contents.picks}
    failed = tuple(
        FailedLabel(name, rounds.get(name), len(why), why[-1]) for name, why in contents.failures.items()
    )
    quarantined: Counter[str] = Counter()
    for metrics in contents.metrics:
        counts = metrics.get("quarantined") or {}
        quarantined.update(dict(counts) if isinstance(counts, Mapping) else {"suspicious": int(counts)})
    reasons = Counter(label.reason for label in failed)
    return Trouble(failed, tuple(reasons.most_common()), tuple(quarantined.most_common()))
