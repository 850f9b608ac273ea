"""An arm of a campaign: structures that something has chosen, their labels, the potentials made of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ase import Atoms

from surveyor.campaign.own_potentials import (
    CORRECTION,
    MODEL,
    open_correction,
    open_own,
    save_correction,
    save_own,
    training_record,
)
from surveyor.campaign.plan import Plan
from surveyor.campaign.records import keep_settings
from surveyor.campaign.validation import split_validation
from surveyor.errors import CampaignError
from surveyor.labelling.ledger import Ledger
from surveyor.labelling.rules import screen, settled
from surveyor.metrics import Errors, errors
from surveyor.progress import Progress, Telling
from surveyor.structures.writing import write_structures
from surveyor.types import Failure, Labeller, Labels, Potential


class Arm:
    """Labels, trains and evaluates; what to label is decided elsewhere, and known by id.

    Every step looks at the folder first and does only what is missing.

    Args:
        plan: trainer, rules for labels, test structures.
        ledger: the journal of its labels.
        rounds: holds a folder a round, `003` and the like, with the potential that came of it.
        progress: told where the work stands.
        name: what a person is told whose work it is; the campaign's own has none.
    """

    def __init__(self, plan: Plan, ledger: Ledger, rounds: Path, progress: Progress, name: str = "") -> None:
        self.plan = plan
        self.ledger = ledger
        self.rounds = rounds
        self.progress = progress
        self.name = name
        self.seconds: dict[str, float] = {}
        self._asked: dict[str, Atoms] = {}
        self._proved: set[str] = set()

    @contextmanager
    def stage(self, number: int, what: str, total: int | None = None) -> Iterator[None]:
        """A stage of a round, which is shown and timed."""
        self.progress.start(f"round {number}: {what}{self.name and f' of {self.name}'}", total)
        begin = time.perf_counter()
        yield
        self.seconds[what] = time.perf_counter() - begin
        self.progress.finish()

    # ---- labels -----------------------------------------------------------------------------------

    def settled(self, name: str) -> bool:
        """Whether a structure needs no further attempt."""
        return settled(self.ledger, self.plan.label_rules, name)

    @property
    def given_up(self) -> set[str]:
        """Structures whose label failed for good, or is in quarantine."""
        return {name for name in self.ledger.failures if self.settled(name)} | self.ledger.quarantined.keys()

    def ask(self, structures: Mapping[str, Atoms]) -> dict[str, Atoms]:
        """Those of the structures that lack a label: the ones that may be told.

        Raises:
            LabellingError: the journal could not hold one of them.
        """
        self._asked = {name: atoms for name, atoms in structures.items() if not self.settled(name)}
        self.ledger.prove({name: atoms for name, atoms in self._asked.items() if name not in self._proved})
        self._proved.update(self._asked)
        return dict(self._asked)

    def tell(self, name: str, result: Labels | Failure) -> None:
        """Write a result to the journal at once; of a structure that is settled, nothing.

        Raises:
            CampaignError: the structure was not asked for.
        """
        if name not in self._asked:
            if self.settled(name):
                return
            raise CampaignError(f"label {name} was not asked for", expected="an id that ask() returned")
        if isinstance(result, Failure):
            self.ledger.append_failure(name, result)
        else:
            self.ledger.append(name, self._asked[name], result)

    def label(self, structures: Mapping[str, Atoms], labeller: Labeller) -> None:
        """Have the structures labelled, until none needs a further attempt."""
        while left := self.ask(structures):
            for name, result in labeller(self._due(left)):
                self.tell(name, result)
                if self.settled(name):
                    self.progress.advance()

    def _due(self, left: Mapping[str, Atoms]) -> dict[str, Atoms]:
        """What is to be tried next; where all that is left has failed before, after the pause for that."""
        due = {name: self.plan.label_rules.due(self.ledger.attempts(name)) for name in left}
        first = min(due.values())
        time.sleep(max(0.0, first - time.time()))
        return {name: atoms for name, atoms in left.items() if due[name] <= max(first, time.time())}

    def screen(self, start: Mapping[str, Atoms], batch: Collection[str]) -> None:
        """Put the suspicious labels of a complete batch into quarantine."""
        screen(self.ledger, self.plan.label_rules, start, batch)

    # ---- potentials -------------------------------------------------------------------------------

    def folder(self, number: int) -> Path:
        """What a round leaves."""
        return self.rounds / f"{number:03d}"

    def train(self, number: int, labelled: Mapping[str, Atoms], references: Mapping[int, float]) -> Potential:
        """The potential of a round: the one that was saved, or a new one.

        Args:
            labelled: all labelled structures of the arm, by id.
            references: see `Trainer`.
        """
        folder, plan = self.folder(number), self.plan
        train, valid = split_validation(labelled, plan.valid_fraction, plan.seed)
        if (folder / MODEL).is_file():
            self.seconds["training"] = float(training_record(folder).get("seconds", 0.0))
            tuned = open_own(folder, plan.open_potential)
        else:
            tuned = self._train(number, train, valid, references)
        return self._corrected(number, tuned, train, valid)

    def _train(
        self, number: int, train: list[Atoms], valid: list[Atoms], references: Mapping[int, float]
    ) -> Potential:
        folder, plan = self.folder(number), self.plan
        write_structures(folder / "train.extxyz", [*train, *valid])
        workdir = folder / "training"
        trainer = plan.trainer
        if isinstance(trainer, Telling):
            trainer = trainer.telling(self.progress.at)
        with self.stage(number, "training"):
            potential = trainer(
                self._origin(number),
                train,
                valid,
                seed=plan.seed + number,
                workdir=workdir,
                references=references,
            )
        keep_settings(workdir, folder)
        save_own(potential, folder, {"seconds": self.seconds["training"]})
        shutil.rmtree(workdir, ignore_errors=True)
        return potential

    def _corrected(self, number: int, tuned: Potential, train: list[Atoms], valid: list[Atoms]) -> Potential:
        """The potential with its tangent correction, where the plan tries one and it pays."""
        if self.plan.correction is None:
            return tuned
        folder = self.folder(number)
        if (folder / CORRECTION).is_file():
            return open_correction(folder, tuned, self.plan.device)
        from surveyor.learner.choice import choose_correction  # imports torch
        from surveyor.learner.threads import torch_threads

        with self.stage(number, "tangent correction"), torch_threads(self.plan.training_cores):
            origin = f"{tuned.family}:{folder / MODEL}"
            start = self.plan.potential
            choice = choose_correction(
                tuned, train, valid, self.plan.correction, origin=origin, pretrained=start
            )
        save_correction(choice, folder)
        return choice.potential

    def _origin(self, number: int) -> Potential:
        """The potential that a round's training starts from."""
        if not self.plan.continued or number == 1:
            return self.plan.potential
        return open_own(self.folder(number - 1), self.plan.open_potential)

    def evaluate(self, potential: Potential) -> Errors:
        """Errors on the test structures."""
        return errors(potential, self.plan.test, on_progress=self.progress.advance)
