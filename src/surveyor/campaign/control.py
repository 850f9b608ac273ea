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

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property

import numpy as np
from ase import Atoms

from surveyor.campaign.campaign import Campaign
from surveyor.campaign.candidates import CandidatePool
from surveyor.campaign.comparison import compare
from surveyor.campaign.own_potentials import MODEL, open_own, save_own
from surveyor.campaign.records import RoundRecord, keep_settings, round_folder, write_json
from surveyor.campaign.validation import split_validation
from surveyor.errors import CampaignError
from surveyor.labelling.ledger import COST, Ledger
from surveyor.labelling.rules import screen
from surveyor.labelling.screening import DOUBT
from surveyor.metrics import errors
from surveyor.structures.identity import structure_id
from surveyor.structures.label_keys import is_isolated_atom
from surveyor.structures.labels import labels_of
from surveyor.types import Failure, Labeller, Labels, Potential


class Control:
    """The random arm of a campaign.

    Every step looks at the folder first and does only what is missing, as the campaign itself does.

    Args:
        campaign: the arm that chooses; it knows nothing of this one.
        method: name of the labelling method.
        every: rounds from one comparison to the next; the last round is always compared.

    Raises:
        CampaignError: there are no test structures to compare on.
    """

    def __init__(self, campaign: Campaign, method: str, *, every: int = 1) -> None:
        if not campaign.plan.test:
            raise CampaignError(
                "a control arm without test structures",
                expected="labelled structures to compare the two arms on",
                todo="name them, test: file.extxyz, or leave control out",
            )
        self.campaign = campaign
        self.plan = campaign.plan
        self.every = every
        self.folder = campaign.folder / "control"
        paid = [int(record.control.get("paid", 0)) for record in campaign.rounds]
        self.ledger = Ledger(self.folder / "labels", method, paid=max(paid, default=0))
        self._start = campaign.given.start
        self._pool = CandidatePool(campaign.given.pool, {}, self.plan.feature_map, campaign.progress)

    def lend(self) -> None:
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
                self._round(record, labeller)

    def _round(self, record: RoundRecord, labeller: Labeller) -> None:
        start = self.campaign.given.start_of(record.number)
        chosen = self._label(record.number, record.labels - len(start), labeller)
        potential = self._train(record.number, {**start, **chosen})
        found = errors(potential, self.plan.test)
        shared = sum(name not in self.ledger for name in chosen)
        control = {
            "rule": "random",
            "labels": len(start) + len(chosen),
            "paid": len(self.ledger),
            "shared": shared,
            "energy_mae": found.energy_mae,
            "force_mae": found.force_mae,
            **compare(record, found, self.plan.test, seed=self.plan.seed),
        }
        path = round_folder(self.campaign.folder, record.number) / "metrics.json"
        write_json(path, asdict(replace(record, control=control)))

    @cached_property
    def _order(self) -> dict[str, int]:
        """id → pool index of all pool structures that are not labelled at the start, in random order.

        What was added to the pool is strewn evenly into the order of the pool as it was: the labels that the
        arm has paid for stay in use.
        """
        ids, out = [], {*self._start}
        for atoms in self.campaign.given.pool:
            ids.append(structure_id(atoms))
            if is_isolated_atom(atoms):
                out.add(ids[-1])
        first = sum(1 for _ in self.plan.pool)
        rng = np.random.default_rng([self.plan.seed, 13])
        place = np.concatenate(
            [np.argsort(rng.permutation(first)) + 0.5, rng.uniform(0, first, len(ids) - first)]
        )
        order = np.argsort(place, kind="stable")
        return {ids[i]: int(i) for i in reversed(order) if ids[i] not in out}

    def _label(self, number: int, wanted: int, labeller: Labeller) -> dict[str, Atoms]:
        """The labelled structures of the arm, as many as the campaign has; failures and suspicious labels are
        passed over."""
        progress = self.campaign.progress
        while True:
            known = {**self.campaign.ledger.trusted, **self.ledger.trusted}
            ledgers = (self.campaign.ledger, self.ledger)
            held = {name for ledger in ledgers for name in (*ledger.failures, *ledger.quarantined)}
            unusable = (held | self._pool.copies) - known.keys()
            names = [name for name in self._order if name not in unusable][:wanted]
            missing = {name: self._order[name] for name in names if name not in known}
            if not missing:
                return {name: known[name] for name in names}
            todo = self._pool.take(missing)
            self.ledger.prove(todo)
            progress.start(f"round {number}: labels of the random control", len(todo))
            for name, result in labeller(todo):
                self._keep(name, todo[name], result)
                progress.advance()
            progress.finish()
            screen(self.ledger, self.plan.label_rules, self._start, [n for n in missing if n in self.ledger])
            if not any(name in self.ledger for name in missing):
                raise CampaignError(
                    f"all {len(missing)} labels of the random control failed; "
                    f"the first: {self.ledger.failures[next(iter(missing))][-1]}",
                    expected="a labelling method that works for these structures",
                    todo=f"mend the calculator, delete {self.folder / 'labels'} and run the command again",
                )

    def _keep(self, name: str, atoms: Atoms, result: Labels | Failure) -> None:
        if isinstance(result, Failure):
            self.ledger.append_failure(name, result)
        else:
            self.ledger.append(name, atoms, result)

    def _train(self, number: int, labelled: dict[str, Atoms]) -> Potential:
        """The same training as the campaign's, on the control's structures."""
        folder = self.folder / f"{number:03d}"
        if (folder / MODEL).is_file():
            return open_own(folder, self.plan.open_potential)
        train, valid = split_validation(labelled, self.plan.valid_fraction, self.plan.seed)
        self.campaign.progress.start(f"round {number}: training of the random control", None)
        potential = self.plan.trainer(
            self._origin(number),
            train,
            valid,
            seed=self.plan.seed + number,
            workdir=folder / "training",
            references=self.campaign.references,
        )
        keep_settings(folder / "training", folder)
        save_own(potential, folder, {})
        shutil.rmtree(folder / "training", ignore_errors=True)
        self.campaign.progress.finish()
        return potential

    def _origin(self, number: int) -> Potential:
        if not self.plan.continued or number == 1:
            return self.plan.potential
        return open_own(self.folder / f"{number - 1:03d}", self.plan.open_potential)


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
