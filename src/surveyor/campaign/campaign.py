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

from surveyor.acquisition import Batch, Featurised, acquire, featurise
from surveyor.campaign.candidates import CandidatePool
from surveyor.campaign.evaluation import residual_std, round_record
from surveyor.campaign.extension import POOL, read_extensions
from surveyor.campaign.forgetting import forgetting
from surveyor.campaign.given import Given
from surveyor.campaign.latent_map import read_map, write_map
from surveyor.campaign.own_potentials import MODEL, open_own, save_own, training_record
from surveyor.campaign.plan import Plan
from surveyor.campaign.records import (
    SCHEMA,
    STATE,
    RoundRecord,
    core_hours,
    keep_settings,
    read_campaign,
    read_picks,
    round_folder,
    training_settings,
    wall_hours,
    write_json,
    write_round,
)
from surveyor.campaign.validation import split_validation
from surveyor.errors import CampaignError
from surveyor.labelling.ledger import Ledger
from surveyor.labelling.rules import Harvest, harvest, screen, settled
from surveyor.metrics import errors
from surveyor.progress import Progress, Silent
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
        CampaignError: the folder belongs to another method, or to a newer version; an input holds something
            else than it did.
        LabellingError: the journal is damaged.
    """

    def __init__(self, folder: Path, plan: Plan, method: str, *, progress: Progress | None = None) -> None:
        self.folder = folder
        self.plan = plan
        self.progress = progress or Silent()
        self._claim(method)
        self.ledger = Ledger(folder / "labels", method, paid=read_campaign(folder).paid)
        self.given = Given(folder, plan)
        self._pool = CandidatePool(self.given.pool, self.given.start, plan.feature_map, self.progress)
        self._waiting: dict[str, Atoms] = {}
        self._proved: set[str] = set()
        self._seconds: dict[str, float] = {}

    def _claim(self, method: str) -> None:
        if not (self.folder / STATE).is_file():
            fingerprint = self.plan.potential.fingerprint
            write_json(self.folder / STATE, {"schema": SCHEMA, "method": method, "potential": fingerprint})
            return
        state = read_campaign(self.folder).state
        model = self.plan.paths.get("model", "the model")
        for key, now, what in (
            ("method", method, "the labelling method"),
            ("potential", self.plan.potential.fingerprint, str(model)),
        ):
            if state[key] != now:
                raise CampaignError(
                    f"the campaign {self.folder} was started with {key} {state[key]}, "
                    f"now it is {now} ({what})",
                    expected="one labelling method and one pretrained potential a campaign",
                    todo="restore the settings and package versions, or start a campaign in another folder",
                )

    @cached_property
    def references(self) -> dict[int, float]:
        """Reference energies from isolated atoms; empty where they are fitted to the labels."""
        return self.given.references(self._pool.elements)

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
        """Why the campaign has ended, or None; limits that were changed since count at once."""
        rounds = self.rounds
        if not rounds:
            return None
        last = rounds[-1]
        grown = any(e.kind == POOL and e.round > last.number for e in read_extensions(self.folder))
        return POOL_USED_UP if last.stopped == POOL_USED_UP and not grown else self._limit(last)

    # ---- the loop ---------------------------------------------------------------------------------

    def step(self, labeller: Labeller) -> RoundRecord:
        """One whole round: ask, label, tell, advance."""
        todo = self.ask()
        if todo:
            with self._stage("labelling", len(todo)):
                while due := self._due():
                    for name, result in labeller(due):
                        self.tell(name, result)
                        if self._settled(name):
                            self.progress.advance()
        return self.advance()

    def _due(self) -> dict[str, Atoms]:
        """What is to be labelled next; where all that is left has failed before, after the pause for that."""
        todo = self.ask()
        due = {name: self.plan.label_rules.due(self.ledger.attempts(name)) for name in todo}
        first = min(due.values(), default=0.0)
        time.sleep(max(0.0, first - time.time()))
        return {name: atoms for name, atoms in todo.items() if due[name] <= max(first, time.time())}

    def ask(self) -> dict[str, Atoms]:
        """The structures of this round that still lack a label; makes the selection if there is none."""
        number = self.number
        if number == 0:
            return {}
        missing = {name: index for name, index in self._chosen(number).items() if not self._settled(name)}
        self._waiting = self._pool.take(missing)
        self.ledger.prove({name: a for name, a in self._waiting.items() if name not in self._proved})
        self._proved.update(self._waiting)
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
        came = Harvest() if number == 0 else self._harvest(number)
        _ = self._pool.featurised  # a stage of its own, before the others are timed
        _ = self.references  # said before anything is paid for
        self._keep_map()
        labelled = self._labelled()
        potential = self._before() if number == 0 else self._train(number, labelled)
        with self._stage("evaluation"):
            record = self._evaluate(number, potential, labelled, came)
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
        return {**self.given.start, **self.ledger.trusted}

    def _settled(self, name: str) -> bool:
        return settled(self.ledger, self.plan.label_rules, name)

    def _untouchable(self) -> set[str]:
        """Structures that are not picked: their label failed or is in quarantine, near copies, lone atoms."""
        held = {*self.ledger.failures, *self.ledger.quarantined}
        return held | self._pool.isolated | self._pool.copies

    def _chosen(self, number: int) -> dict[str, int]:
        """id → pool index of the round's picks, without those of which somebody has added a label since."""
        path = round_folder(self.folder, number) / "selection.json"
        if not path.is_file():
            self._select(number, path)
        return {name: index for name, index in read_picks(path).items() if name not in self.given.start}

    def _select(self, number: int, path: Path) -> None:
        left = self._pool.left({*self._labelled(), *self._untouchable()})
        size = self.plan.stopping.batch(self.plan.batch, len(self.ledger))
        with self._stage("selection"):
            batch = self._acquire(number, min(size, left))
        picks = [asdict(pick) for pick in batch.picks]
        chosen = self._pool.take({pick.id: pick.index for pick in batch.picks})
        write_structures(path.with_name("picks.extxyz"), chosen.values())
        write_json(path, {"picks": picks, "stopped": batch.stopped.value})

    def _acquire(self, number: int, size: int, *, n_forecast: int = 0) -> Batch:
        """The batch of a round, given the labels so far."""
        return acquire(
            self._pool.featurised,
            self._pool.features_of(self._labelled()),
            size,
            self.plan.rule,
            noise=self.plan.noise,
            seed=self.plan.seed + number,
            target=self._target,
            exclude=self._untouchable(),
            n_forecast=n_forecast,
        )

    def _harvest(self, number: int) -> Harvest:
        """What came of the round's batch, once the suspicious labels are held back."""
        batch, rules = self._chosen(number), self.plan.label_rules
        if not batch:
            return Harvest()
        if all(self._settled(name) for name in batch):
            screen(self.ledger, rules, self.given.start, batch)
        return harvest(self.ledger, rules, number, batch)

    def _before(self) -> Potential:
        """The pretrained potential; its energies are comparable once its references are re-fitted."""
        if not self.given.start:
            return self.plan.potential
        return self.plan.shift_references(self.plan.potential, list(self.given.start.values()))

    def _train(self, number: int, labelled: dict[str, Atoms]) -> Potential:
        folder = round_folder(self.folder, number)
        if (folder / MODEL).is_file():
            self._seconds["training"] = float(training_record(folder).get("seconds", 0.0))
            return open_own(folder, self.plan.open_potential)
        train, valid = split_validation(labelled, self.plan.valid_fraction, self.plan.seed)
        write_structures(folder / "train.extxyz", [*train, *valid])
        with self._stage("training"):
            potential = self.plan.trainer(
                self._origin(number),
                train,
                valid,
                seed=self.plan.seed + number,
                workdir=folder / "training",
                references=self.references,
            )
        keep_settings(folder / "training", folder)
        save_own(potential, folder, {"seconds": self._seconds["training"]})
        shutil.rmtree(folder / "training", ignore_errors=True)
        return potential

    def _origin(self, number: int) -> Potential:
        """The potential that the round's training starts from."""
        if not self.plan.continued or number == 1:
            return self.plan.potential
        return open_own(round_folder(self.folder, number - 1), self.plan.open_potential)

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
        self, number: int, potential: Potential, labelled: dict[str, Atoms], came: Harvest
    ) -> RoundRecord:
        found, std = None, None
        if self.plan.test:
            found = errors(potential, self.plan.test)
            known = self._pool.features_of(labelled)
            std = residual_std(self._pool.featurised, known, self._test, noise=self.plan.noise)
        costs = {
            "labelling": round(came.core_seconds, 2),
            "training": round(self._seconds.get("training", 0.0) * self.plan.training_cores, 2),
        }
        record = replace(
            round_record(
                number,
                labels=len(labelled),
                paid=len(self.ledger),
                failed=came.failed,
                found=found,
                std=std,
                seconds=self._seconds,
                stopped=None,
            ),
            quarantined=came.quarantined,
            core_seconds=costs if number else {},
            notes=list(came.notes),
        )
        left = self._pool.left({*labelled, *self._untouchable()})
        if left == 0:
            return replace(record, stopped=self._limit(record) or POOL_USED_UP)
        if self.plan.stopping.min_gain is not None and self._limit(record) is None:
            record = replace(record, predicted_gain=self._predicted_gain(number + 1, left))
        return replace(record, stopped=self._limit(record))

    def _limit(self, record: RoundRecord) -> str | None:
        """Which limit this round, the last one, has reached."""
        rounds = (*self.rounds[: record.number], record)
        return self.plan.stopping.reason(
            rounds=record.number,
            labels=record.paid,
            energy_mae=record.energy_mae,
            force_mae=record.force_mae,
            core_hours=core_hours(rounds),
            wall_hours=wall_hours(rounds),
            gain=record.predicted_gain,
        )

    def _predicted_gain(self, number: int, left: int) -> float:
        """Forecast fall of the pool's residual std in a round, per cent of its present value per label."""
        size = min(self.plan.stopping.batch(self.plan.batch, len(self.ledger)), left)
        outlook = self._acquire(number, size, n_forecast=size).forecast
        assert outlook is not None  # noqa: S101
        return float(100 * (1 - outlook.path[-1]) / size)

    @contextmanager
    def _stage(self, name: str, total: int | None = None) -> Iterator[None]:
        self.progress.start(f"round {self.number}: {name}", total)
        begin = time.perf_counter()
        yield
        self._seconds[name] = time.perf_counter() - begin
        self.progress.finish()

    def _keep_map(self) -> None:
        """Write where all structures lie, for the report, unless that was done already for these."""
        found = read_map(self.folder)
        if found is not None and (len(found.pool), len(found.start)) == (
            len(self._pool.featurised),
            len(self.given.start),
        ):
            return
        start = self._pool.features_of(self.given.start)
        structures = {
            "pool": self.given.pool,
            "start": [self.given.start[name] for name in start.ids],
            "test": self.plan.test,
        }
        write_map(self.folder, self._pool.featurised, start, self._test, structures, seed=self.plan.seed)
