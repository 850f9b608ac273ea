"""The campaign: ask → label → tell → train → evaluate, round after round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ase import Atoms

from surveyor.acquisition import Batch, acquire
from surveyor.campaign.arm import Arm
from surveyor.campaign.candidates import CandidatePool
from surveyor.campaign.evaluation import residual_std, test_figures
from surveyor.campaign.forgetting import forgetting
from surveyor.campaign.given import Given
from surveyor.campaign.latent_map import write_map
from surveyor.campaign.own_potentials import said_of_correction
from surveyor.campaign.plan import Plan
from surveyor.campaign.records import (
    SCHEMA,
    STATE,
    CampaignRecord,
    RoundRecord,
    core_hours,
    read_campaign,
    read_picks,
    round_folder,
    training_settings,
    wall_hours,
    write_metrics,
    write_round,
)
from surveyor.errors import CampaignError
from surveyor.labelling.ledger import Ledger
from surveyor.labelling.rules import Harvest, harvest
from surveyor.progress import Progress, Silent
from surveyor.structures.writing import write_json, write_structures
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

    def __init__(
        self, folder: str | Path, plan: Plan, method: str, *, progress: Progress | None = None
    ) -> None:
        if not isinstance(plan, Plan):
            raise CampaignError(f"{type(plan).__name__} as the plan", expected="a surveyor.campaign.Plan")
        self.folder = folder = Path(folder)
        self.plan = plan
        self.method = method
        self.progress = progress or Silent()
        record = self._begun()
        self._rounds = list(record.rounds)
        self.ledger = Ledger(folder / "labels", method, paid=record.paid)
        self.arm = Arm(plan, self.ledger, folder / "rounds", self.progress)
        self.given = Given(folder, plan)
        self.pool = CandidatePool(self.given, self.progress)
        self._picked: tuple[int, dict[str, Atoms]] | None = None

    def _begun(self) -> CampaignRecord:
        """The folder, begun now or as it was left."""
        now = {"method": self.method, "potential": self.plan.potential.fingerprint}
        if not (self.folder / STATE).is_file():
            write_json(self.folder / STATE, {"schema": SCHEMA, **now})
        record = read_campaign(self.folder)
        what = {
            "method": "the labelling method",
            "potential": str(self.plan.paths.get("model", "the model")),
        }
        for key, value in now.items():
            before = record.state.get(key)
            if before != value:
                raise CampaignError(
                    f"the campaign {self.folder} was started with {key} {before}, "
                    f"now it is {value} ({what[key]})",
                    expected="one labelling method and one pretrained potential a campaign",
                    todo="restore the settings and package versions, or start a campaign in another folder",
                )
        return record

    @cached_property
    def references(self) -> dict[int, float]:
        """Reference energies from isolated atoms; empty where they are fitted to the labels."""
        return self.given.references(self.pool.elements)

    @property
    def rounds(self) -> tuple[RoundRecord, ...]:
        """The finished rounds."""
        return tuple(self._rounds)

    @property
    def number(self) -> int:
        """Number of the round in progress."""
        return len(self._rounds)

    @property
    def stopped(self) -> str | None:
        """Why the campaign has ended, or None; limits that were changed since count at once."""
        if not self._rounds:
            return None
        last = self._rounds[-1]
        grown = any(added.round > last.number for added in self.given.added_to_pool)
        return POOL_USED_UP if last.stopped == POOL_USED_UP and not grown else self._limit(last)

    def __repr__(self) -> str:
        where = "begun" if self.stopped is None else f"stopped: {self.stopped}"
        return f"Campaign({self.folder}: round {self.number}, {len(self.ledger)} labels paid for, {where})"

    # ---- the loop ---------------------------------------------------------------------------------

    def step(self, labeller: Labeller) -> RoundRecord:
        """One whole round: ask, label, tell, advance."""
        todo = self.ask()
        if todo:
            with self.arm.stage(self.number, "labelling", len(todo)):
                self.arm.label(todo, labeller)
        return self.advance()

    def ask(self) -> dict[str, Atoms]:
        """The structures of this round that still lack a label; makes the selection if there is none."""
        return self.arm.ask(self._batch())

    def tell(self, name: str, result: Labels | Failure) -> None:
        """Write a result to the journal at once.

        Raises:
            CampaignError: the structure was not asked for.
        """
        self.ask()
        self.arm.tell(name, result)

    def advance(self) -> RoundRecord:
        """Train on all labels, evaluate, and close the round.

        Raises:
            CampaignError: labels of this round are missing, or all of them failed.
        """
        number, arm = self.number, self.arm
        came = self._harvest(number)
        _ = self.pool.featurised  # a stage of its own, before the others are timed
        _ = self.references  # said before anything is paid for
        self._keep_map()
        labelled = self._labelled()
        potential = arm.train(number, labelled, self.references) if number else self._before()
        with arm.stage(number, "evaluation", len(self.plan.test) or None):
            record = self._evaluate(potential, labelled, came)
        write_round(self.folder, record)
        self._rounds.append(record)
        arm.seconds.clear()
        return record

    def amend(self, record: RoundRecord) -> None:
        """Put another record in the place of that of a finished round."""
        write_metrics(self.folder, record)
        self._rounds[record.number] = record

    # ---- parts of a round -------------------------------------------------------------------------

    def _labelled(self) -> dict[str, Atoms]:
        return {**self.given.start, **self.ledger.trusted}

    def _untouchable(self) -> set[str]:
        """Structures that are not picked: their label failed or is in quarantine, near copies, lone atoms."""
        held = {*self.ledger.failures, *self.ledger.quarantined}
        return held | self.pool.isolated | self.pool.copies

    def _batch(self) -> dict[str, Atoms]:
        """The round's picks by id, without those of which somebody has added a label since."""
        if self.number == 0:
            return {}
        if self._picked is None or self._picked[0] != self.number:
            path = round_folder(self.folder, self.number) / "selection.json"
            picks = self.pool.take(read_picks(path)) if path.is_file() else self._select(path)
            left = {name: atoms for name, atoms in picks.items() if name not in self.given.start}
            self._picked = self.number, left
        return self._picked[1]

    def _select(self, path: Path) -> dict[str, Atoms]:
        left = self.pool.left({*self._labelled(), *self._untouchable()})
        size = self.plan.stopping.batch(self.plan.batch, len(self.ledger))
        with self.arm.stage(self.number, "selection"):
            batch = self._acquire(self.number, min(size, left))
        chosen = self.pool.take({pick.id: pick.index for pick in batch.picks})
        write_structures(path.with_name("picks.extxyz"), chosen.values())
        picks = [asdict(pick) for pick in batch.picks]
        write_json(path, {"picks": picks, "stopped": batch.stopped.value})
        return chosen

    def _acquire(self, number: int, size: int, *, n_forecast: int = 0) -> Batch:
        """The batch of a round, given the labels so far."""
        return acquire(
            self.pool.featurised,
            self.pool.features_of(self._labelled()),
            size,
            self.plan.rule,
            noise=self.plan.noise,
            seed=self.plan.seed + number,
            target=self.pool.target,
            exclude=self._untouchable(),
            n_forecast=n_forecast,
        )

    def _harvest(self, number: int) -> Harvest:
        """What came of the round's batch, once the suspicious labels are held back."""
        batch = self._batch()
        if not batch:
            return Harvest()
        if all(self.arm.settled(name) for name in batch):
            self.arm.screen(self.given.start, batch)
        return harvest(self.ledger, self.plan.label_rules, number, batch)

    def _before(self) -> Potential:
        """The pretrained potential; its energies are comparable once its references are re-fitted."""
        from surveyor.potentials.references import shifted_to

        start = list(self.given.start.values())
        return shifted_to(self.plan.potential, start) if start else self.plan.potential

    def _evaluate(self, potential: Potential, labelled: Mapping[str, Atoms], came: Harvest) -> RoundRecord:
        number, arm, plan = self.number, self.arm, self.plan
        figures: dict[str, Any] = {}
        if plan.test:
            known = self.pool.features_of(labelled)
            std = residual_std(self.pool.featurised, known, self.pool.test, noise=plan.noise)
            figures = test_figures(arm.evaluate(potential), std)
        costs = {
            "labelling": round(came.core_seconds, 2),
            "training": round(arm.seconds.get("training", 0.0) * plan.training_cores, 2),
        }
        record = RoundRecord(
            number,
            labels=len(labelled),
            paid=len(self.ledger),
            failed=came.failed,
            **figures,
            training_settings=training_settings(self.folder, number),
            forgetting=forgetting(plan.potential, potential if number else None, plan.generic, self._rounds),
            seconds={stage: round(value, 2) for stage, value in arm.seconds.items()},
            quarantined=came.quarantined,
            core_seconds=costs if number else {},
            notes=[*came.notes, *said_of_correction(arm.folder(number))],
        )
        left = self.pool.left({*labelled, *self._untouchable()})
        if left and plan.stopping.min_gain is not None and self._limit(record) is None:
            record = replace(record, predicted_gain=self._predicted_gain(number + 1, left))
        return replace(record, stopped=self._limit(record) or (None if left else POOL_USED_UP))

    def _limit(self, record: RoundRecord) -> str | None:
        """Which limit this round, the last one, has reached."""
        rounds = (*self._rounds[: record.number], record)
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

    def _keep_map(self) -> None:
        """Where all structures lie, for the report."""
        start = self.pool.features_of(self.given.start)
        structures = {
            "pool": self.given.pool,
            "start": [self.given.start[name] for name in start.ids],
            "test": self.plan.test,
        }
        write_map(self.folder, self.pool.featurised, start, self.pool.test, structures, seed=self.plan.seed)
