"""What happens to a batch: labels that fail, are suspicious, or stay away."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase import Atoms
from pydantic import Field, NonNegativeFloat, NonNegativeInt

from surveyor.errors import CampaignError
from surveyor.labelling.ledger import Ledger
from surveyor.labelling.screening import Screening


class LabelRules(Screening):
    """When a failed label is tried again, which labels are held back, and how many a round needs.

    | field      | meaning                                                              | unit |
    |------------|----------------------------------------------------------------------|------|
    | retries    | attempts after the first one                                         |      |
    | retry_wait | pause before the second attempt, doubled before each further one     | s    |
    | minimum    | share of a batch that must come for the round to go on; the rest are |      |
    |            | failures and labels in quarantine                                    |      |

    A failure that is final (the same input fails the same way) is not tried again.
    """

    retries: NonNegativeInt = 2
    retry_wait: NonNegativeFloat = 10.0
    minimum: float = Field(default=0.5, ge=0, le=1)

    def used_up(self, failures: Sequence[dict[str, Any]]) -> bool:
        """Whether these failed attempts are all that are made."""
        return len(failures) > self.retries or any(failure.get("final") for failure in failures)

    def due(self, failures: Sequence[dict[str, Any]]) -> float:
        """When the next attempt may begin, seconds of the Unix epoch; 0: at once."""
        if not failures:
            return 0.0
        # A clock that was set back since must not make anybody wait for the time that it told.
        last = min(float(failures[-1].get("time", 0.0)), time.time())
        return last + self.retry_wait * 2.0 ** (len(failures) - 1)


@dataclass(frozen=True)
class Harvest:
    """What came of a batch.

    | field        | meaning                         | unit      |
    |--------------|---------------------------------|-----------|
    | failed       | labels that did not come        |           |
    | quarantined  | labels that are held back       |           |
    | core_seconds | what the batch cost             | s × cores |
    | notes        | what a person should know       |           |
    """

    failed: int = 0
    quarantined: int = 0
    core_seconds: float = 0.0
    notes: tuple[str, ...] = ()


def settled(ledger: Ledger, rules: LabelRules, name: str) -> bool:
    """Whether a structure needs no further attempt."""
    return name in ledger or rules.used_up(ledger.attempts(name))


def screen(ledger: Ledger, rules: LabelRules, start: Mapping[str, Atoms], batch: Collection[str]) -> None:
    """Put the suspicious labels of a complete batch into quarantine.

    The batch is looked at as a whole, so that the verdicts do not depend on the order of arrival.
    """
    trusted = ledger.trusted
    new = {name: trusted[name] for name in batch if name in trusted and not ledger.released(name)}
    known = [*start.values(), *(atoms for name, atoms in trusted.items() if name not in new)]
    for name, reason in rules.suspicious(new, known).items():
        ledger.quarantine(name, reason)


def harvest(ledger: Ledger, rules: LabelRules, number: int, batch: Collection[str]) -> Harvest:
    """What came of the batch of a round, if it is enough to go on.

    Raises:
        CampaignError: labels are missing, or fewer came than the round needs.
    """
    missing = [name for name in batch if not settled(ledger, rules, name)]
    if missing:
        raise CampaignError(
            f"{len(missing)} of {len(batch)} labels of round {number} are missing",
            expected="a label or a failure for each structure that ask() returned",
            todo="tell() them first",
        )
    failed = [name for name in batch if name not in ledger]
    held = [name for name in batch if name in ledger.quarantined]
    came = len(batch) - len(failed) - len(held)
    lacking = _lacking(len(failed), len(held))
    if came == 0 or came < rules.minimum * len(batch):
        reason = ledger.failures[failed[0]][-1] if failed else ledger.quarantined[held[0]]
        raise CampaignError(
            (
                f"all {len(batch)} labels of round {number} failed; the first: {reason}"
                if len(failed) == len(batch)
                else f"only {came} of {len(batch)} labels of round {number} can be used: {lacking}; "
                f"the first: {reason}"
            ),
            expected=f"at least {rules.minimum:.0%} of a batch (labels: minimum), and one label",
            todo="mend the calculator, let failed and held labels go with `surveyor label release`, "
            "and run the command again",
        )
    notes = (f"the round went on with {came} of {len(batch)} labels: {lacking}",) if lacking else ()
    cost = sum(ledger.cost(name) for name in batch)
    return Harvest(len(failed), len(held), cost, notes)


def _lacking(failed: int, held: int) -> str:
    parts = [f"{failed} failed"] * bool(failed) + [f"{held} in quarantine"] * bool(held)
    return ", ".join(parts)
