"""A control arm: what as many labels, chosen at random, would have brought on the same system.

The arm has a folder of its own inside the campaign's:

    control/labels/<method>.extxyz     journal of the labels that only the control needed
    control/003/potential.model        trained on the start set and the control's labels
    rounds/003/metrics.json            `control`: its errors beside those of the round

Its structures are the beginning of one random order of the whole pool, fixed by the seed before anything is
labelled. A label that the other arm has already is used, not paid for again: which structures an arm takes
never depends on what the other one has, so that sharing labels favours neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from ase import Atoms

from surveyor.campaign.arm import Arm
from surveyor.campaign.campaign import Campaign
from surveyor.campaign.comparison import compare
from surveyor.campaign.records import RoundRecord
from surveyor.errors import CampaignError
from surveyor.labelling.ledger import COST, Ledger
from surveyor.labelling.screening import DOUBT
from surveyor.structures.labels import labels_of
from surveyor.types import Labeller, Labels


class Control:
    """The random arm of a campaign.

    Every step looks at the folder first and does only what is missing, as the campaign itself does.

    Args:
        campaign: the arm that chooses; it knows nothing of this one.
        every: rounds from one comparison to the next; the last round is always compared.

    Raises:
        CampaignError: there are no test structures to compare on.
    """

    def __init__(self, campaign: Campaign, *, every: int = 1) -> None:
        if not campaign.plan.test:
            raise CampaignError(
                "a control arm without test structures",
                expected="labelled structures to compare the two arms on",
                todo="name them, test: file.extxyz, or leave control out",
            )
        self.campaign = campaign
        self.every = every
        folder = campaign.folder / "control"
        paid = [int(record.control.get("paid", 0)) for record in campaign.rounds]
        self.ledger = Ledger(folder / "labels", campaign.method, paid=max(paid, default=0))
        self.arm = Arm(campaign.plan, self.ledger, folder, campaign.progress, "the random control")

    def share(self) -> None:
        """Hand the campaign those labels of its next batch that the control has paid for already."""
        known = self.ledger.trusted
        for name in self.campaign.ask():
            if name in known:
                self.campaign.tell(name, labels_on_record(known[name]))

    def catch_up(self, labeller: Labeller) -> None:
        """Label, train and compare for every finished round that lacks its comparison."""
        for record in self.campaign.rounds:
            due = record.number > 0 and (record.number % self.every == 0 or record.stopped is not None)
            if due and not record.control:
                self._compare(record, labeller)

    def _compare(self, record: RoundRecord, labeller: Labeller) -> None:
        plan = self.campaign.plan
        start = self.campaign.given.start_of(record.number)
        chosen = self.labelled(record.number, record.labels - len(start), labeller)
        potential = self.arm.train(record.number, {**start, **chosen}, self.campaign.references)
        with self.arm.stage(record.number, "evaluation", len(plan.test)):
            found = self.arm.evaluate(potential)
        control = {
            "rule": "random",
            "labels": len(start) + len(chosen),
            "paid": len(self.ledger),
            "shared": sum(name not in self.ledger for name in chosen),
            "energy_mae": found.energy_mae,
            "force_mae": found.force_mae,
            **compare(record, found, plan.test, seed=plan.seed),
        }
        self.campaign.amend(replace(record, control=control))

    @cached_property
    def order(self) -> dict[str, int]:
        """id → pool index of all pool structures that are not labelled at the start, in random order.

        What was added to the pool is strewn evenly into the order of the pool as it was: the labels that the
        arm has paid for stay in use.
        """
        pool, given = self.campaign.pool, self.campaign.given
        ids, out = pool.featurised.ids, {*given.start, *pool.isolated}
        added = sum(entry.frames for entry in given.added_to_pool)
        first = len(ids) - added
        rng = np.random.default_rng([self.campaign.plan.seed, 13])
        place = np.concatenate([np.argsort(rng.permutation(first)) + 0.5, rng.uniform(0, first, added)])
        order = np.argsort(place, kind="stable")
        return {ids[i]: int(i) for i in reversed(order) if ids[i] not in out}

    def labelled(self, number: int, wanted: int, labeller: Labeller) -> dict[str, Atoms]:
        """As many labelled structures of the random order as are wanted, by id.

        Failed and suspicious labels and near copies are passed over.

        Args:
            number: of the round.

        Raises:
            CampaignError: every label that was missing has failed.
        """
        ours, theirs = self.arm, self.campaign.arm
        while True:
            known = {**theirs.ledger.trusted, **ours.ledger.trusted}
            passed_over = (ours.given_up | theirs.given_up | self.campaign.pool.copies) - known.keys()
            names = [name for name in self.order if name not in passed_over][:wanted]
            missing = {name: self.order[name] for name in names if name not in known}
            if not missing:
                return {name: known[name] for name in names}
            todo = self.campaign.pool.take(missing)
            with ours.stage(number, "labelling", len(todo)):
                ours.label(todo, labeller)
            came = [name for name in missing if name in self.ledger]
            ours.screen(self.campaign.given.start, came)
            if not came:
                raise CampaignError(
                    f"all {len(missing)} labels of the random control failed; "
                    f"the first: {self.ledger.failures[next(iter(missing))][-1]}",
                    expected="a labelling method that works for these structures",
                    todo=f"mend the calculator, delete {self.ledger.path.parent} and run the command again",
                )


def labels_on_record(atoms: Atoms) -> Labels:
    """A label as a journal holds it: stress, cost and doubt included."""
    doubt = atoms.info.get(DOUBT)
    return replace(
        labels_of(atoms),
        core_seconds=float(atoms.info.get(COST, 0.0)),
        doubt=None if doubt is None else str(doubt),
    )


def verdicts(rounds: Sequence[RoundRecord]) -> list[str]:
    """What the last comparison says, in plain sentences; none where there is no control."""
    compared = [record for record in rounds if record.control]
    return [str(compared[-1].control["verdict"])] if compared else []
