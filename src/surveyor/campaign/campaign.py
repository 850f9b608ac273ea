"""The campaign: ask → label → tell → train → evaluate, round after round."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

from ase import Atoms

from surveyor.acquisition import Featurised, acquire, featurise
from surveyor.campaign.candidates import CandidatePool
from surveyor.campaign.evaluation import residual_std, round_record
from surveyor.campaign.forgetting import forgetting
from surveyor.campaign.latent_map import MAP, write_map
from surveyor.campaign.plan import Plan
from surveyor.campaign.records import (
    SCHEMA,
    STATE,
    RoundRecord,
    keep_settings,
    read_campaign,
    read_json,
    round_folder,
    training_settings,
    write_json,
    write_round,
)
from surveyor.campaign.validation import split_validation
from surveyor.errors import CampaignError
from surveyor.labelling.ledger import Ledger
from surveyor.metrics import errors
from surveyor.progress import Progress, Silent
from surveyor.structures.identity import structure_id
from surveyor.structures.writing import write_structures
from surveyor.types import Failure, Labeller, Labels, Potential

POOL_USED_UP = "every structure of the pool is labelled or failed"


class Campaign:
    """A campaign in its folder. The caller holds a `CampaignLock`.

    Every step looks at the folder first and does only what is missing: after any interruption the same calls
    go on where the last ones stopped.

    Args:
        folder: made if it is not there.
        plan: the built parts.
        method: name of the labelling method, which names the journal.
        progress: told where the work stands.

    Raises:
        CampaignError: the folder belongs to another method, or to a newer version.
        LabellingError: the journal is damaged.
    """

    def __init__(self, folder: Path, plan: Plan, method: str, *, progress: Progress | None = None) -> None:
        self.folder = folder
        self.plan = plan
        self.progress = progress or Silent()
        self._claim(method)
        self.ledger = Ledger(folder / "labels", method)
        self._start = {structure_id(atoms): atoms for atoms in plan.start}
        self._pool = CandidatePool(plan.pool, self._start, plan.feature_map, self.progress)
        self._waiting: dict[str, Atoms] = {}
        self._seconds: dict[str, float] = {}

    def _claim(self, method: str) -> None:
        if not (self.folder / STATE).is_file():
            fingerprint = self.plan.potential.fingerprint
            write_json(self.folder / STATE, {"schema": SCHEMA, "method": method, "potential": fingerprint})
            return
        state = read_campaign(self.folder).state
        for key, now in (("method", method), ("potential", self.plan.potential.fingerprint)):
            if state[key] != now:
                raise CampaignError(
                    f"the campaign {self.folder} was started with {key} {state[key]}, now it is {now}",
                    expected="one labelling method and one pretrained potential a campaign",
                    todo="restore the settings and package versions, or start a campaign in another folder",
                )

    @property
    def rounds(self) -> tuple[RoundRecord, ...]:
        """The finished rounds."""
        return read_campaign(self.folder).rounds

    @property
    def number(self) -> int:
        """Number of the round in progress."""
        return len(self.rounds)

    @property
    def stopped(self) -> str | None:
        """Why the campaign has ended, or None; limits that were raised since open it again."""
        rounds = self.rounds
        if not rounds:
            return None
        last = rounds[-1]
        if last.stopped in (None, POOL_USED_UP):
            return last.stopped
        return self.plan.stopping.reason(
            rounds=last.number, labels=last.paid, energy_mae=last.energy_mae, force_mae=last.force_mae
        )

    # ---- the loop ---------------------------------------------------------------------------------

    def step(self, labeller: Labeller) -> RoundRecord:
        """One whole round: ask, label, tell, advance."""
        todo = self.ask()
        if todo:
            with self._stage("labelling", len(todo)):
                for name, result in labeller(todo):
                    self.tell(name, result)
                    self.progress.advance()
        return self.advance()

    def ask(self) -> dict[str, Atoms]:
        """The structures of this round that still lack a label; makes the selection if there is none."""
        number = self.number
        if number == 0:
            return {}
        missing = {name: index for name, index in self._chosen(number).items() if not self._settled(name)}
        self._waiting = self._pool.take(missing)
        return dict(self._waiting)

    def tell(self, name: str, result: Labels | Failure) -> None:
        """Write a result to the journal at once.

        Raises:
            CampaignError: the structure was not asked for.
        """
        if name not in self._waiting and name not in self.ask():
            if self._settled(name):
                return
            raise CampaignError(f"label {name} was not asked for", expected="an id that ask() returned")
        if isinstance(result, Failure):
            self.ledger.append_failure(name, result)
        else:
            self.ledger.append(name, self._waiting[name], result)

    def advance(self) -> RoundRecord:
        """Train on all labels, evaluate, and close the round.

        Raises:
            CampaignError: labels of this round are missing, or all of them failed.
        """
        number = self.number
        failed = 0 if number == 0 else self._check_complete(number)
        _ = self._pool.featurised  # a stage of its own, before the others are timed
        self._keep_map()
        labelled = self._labelled()
        potential = self._before() if number == 0 else self._train(number, labelled)
        with self._stage("evaluation"):
            record = self._evaluate(number, potential, labelled, failed)
            record = replace(
                record,
                training_settings=training_settings(self.folder, number),
                forgetting=self._forgetting(number, potential),
            )
        write_round(self.folder, record)
        self._seconds = {}
        return record

    # ---- parts of a round -------------------------------------------------------------------------

    def _labelled(self) -> dict[str, Atoms]:
        return {**self._start, **self.ledger.structures}

    def _settled(self, name: str) -> bool:
        return name in self.ledger or name in self.ledger.failures

    def _chosen(self, number: int) -> dict[str, int]:
        """id → pool index of the round's picks."""
        path = round_folder(self.folder, number) / "selection.json"
        if not path.is_file():
            self._select(number, path)
        return {pick["id"]: pick["index"] for pick in read_json(path)["picks"]}

    def _select(self, number: int, path: Path) -> None:
        pool = self._pool.featurised
        left = self._pool.left({*self._labelled(), *self.ledger.failures})
        size = self.plan.stopping.batch(self.plan.batch, len(self.ledger))
        with self._stage("selection"):
            batch = acquire(
                pool,
                self._pool.features_of(self._labelled()),
                min(size, left),
                self.plan.rule,
                noise=self.plan.noise,
                seed=self.plan.seed + number,
                target=self._target,
                exclude=self.ledger.failures,
            )
        picks = [asdict(pick) for pick in batch.picks]
        chosen = self._pool.take({pick.id: pick.index for pick in batch.picks})
        write_structures(path.with_name("picks.extxyz"), chosen.values())
        write_json(path, {"picks": picks, "stopped": batch.stopped.value})

    def _check_complete(self, number: int) -> int:
        """Number of failed labels of a round in which no label is missing."""
        chosen = self._chosen(number)
        missing = [name for name in chosen if not self._settled(name)]
        if missing:
            raise CampaignError(
                f"{len(missing)} of {len(chosen)} labels of round {number} are missing",
                expected="a label or a failure for each structure that ask() returned",
                todo="tell() them first",
            )
        failed = [name for name in chosen if name not in self.ledger]
        if len(failed) == len(chosen):
            raise CampaignError(
                f"all {len(chosen)} labels of round {number} failed; "
                f"the first: {self.ledger.failures[failed[0]][-1]}",
                expected="a labelling method that works for these structures",
                todo=f"mend the calculator, delete {self.ledger.failures_path} and run the command again",
            )
        return len(failed)

    def _before(self) -> Potential:
        """The pretrained potential; its energies are comparable once its references are re-fitted."""
        if not self._start:
            return self.plan.potential
        return self.plan.shift_references(self.plan.potential, list(self._start.values()))

    def _train(self, number: int, labelled: dict[str, Atoms]) -> Potential:
        folder = round_folder(self.folder, number)
        path = folder / "potential.model"
        if path.is_file():
            return self.plan.open_potential(path)
        train, valid = split_validation(labelled, self.plan.valid_fraction, self.plan.seed)
        write_structures(folder / "train.extxyz", [*train, *valid])
        with self._stage("training"):
            potential = self.plan.trainer(
                self._origin(number), train, valid, seed=self.plan.seed + number, workdir=folder / "training"
            )
        keep_settings(folder / "training", folder)
        potential.save(path)
        shutil.rmtree(folder / "training", ignore_errors=True)
        return potential

    def _origin(self, number: int) -> Potential:
        """The potential that the round's training starts from."""
        if not self.plan.continued or number == 1:
            return self.plan.potential
        return self.plan.open_potential(round_folder(self.folder, number - 1) / "potential.model")

    def _forgetting(self, number: int, potential: Potential) -> dict[str, dict[str, float]]:
        tuned = potential if number else None
        return forgetting(self.plan.potential, tuned, self.plan.generic, self.rounds)

    @cached_property
    def _target(self) -> Featurised | None:
        return featurise(self.plan.target, self.plan.feature_map) if self.plan.target else None

    @cached_property
    def _test(self) -> Featurised:
        return featurise(self.plan.test, self.plan.feature_map)

    def _evaluate(
        self, number: int, potential: Potential, labelled: dict[str, Atoms], failed: int
    ) -> RoundRecord:
        found, std = None, None
        if self.plan.test:
            found = errors(potential, self.plan.test)
            known = self._pool.features_of(labelled)
            std = residual_std(self._pool.featurised, known, self._test, noise=self.plan.noise)
        reason = self.plan.stopping.reason(
            rounds=number,
            labels=len(self.ledger),
            energy_mae=found.energy_mae if found else None,
            force_mae=found.force_mae if found else None,
        )
        if reason is None and self._pool.left({*labelled, *self.ledger.failures}) == 0:
            reason = POOL_USED_UP
        return round_record(
            number,
            labels=len(labelled),
            paid=len(self.ledger),
            failed=failed,
            found=found,
            std=std,
            seconds=self._seconds,
            stopped=reason,
        )

    @contextmanager
    def _stage(self, name: str, total: int | None = None) -> Iterator[None]:
        self.progress.start(f"round {self.number}: {name}", total)
        begin = time.perf_counter()
        yield
        self._seconds[name] = time.perf_counter() - begin
        self.progress.finish()

    def _keep_map(self) -> None:
        """Write where all structures lie, for the report, unless that was done already."""
        if (self.folder / MAP).is_file():
            return
        start = self._pool.features_of(self._start)
        structures = {
            "pool": self.plan.pool,
            "start": [self._start[name] for name in start.ids],
            "test": self.plan.test,
        }
        write_map(self.folder, self._pool.featurised, start, self._test, structures, seed=self.plan.seed)
