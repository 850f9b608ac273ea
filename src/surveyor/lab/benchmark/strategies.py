"""What a strategy labels next."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from surveyor.acquisition import Featurised, acquire
from surveyor.disagreement import spread
from surveyor.lab.benchmark.learners import Learner, core_seconds
from surveyor.lab.benchmark.loading import COMMITTEE
from surveyor.lab.benchmark.schema import Shortlist, StrategySpec
from surveyor.lab.benchmark.tasks import Task
from surveyor.selection import make_rule
from surveyor.types import Features, Float64Array, Labels


@dataclass(frozen=True, eq=False)
class Situation:
    """Where a run stands: what is labelled, what must not be picked, and the round's seeded choice."""

    labelled: Mapping[str, Atoms]
    excluded: frozenset[str]
    count: int
    seed: int


@dataclass(frozen=True)
class Choice:
    """Ids of the picks, best first, and the processor time that they took, in s."""

    ids: list[str]
    seconds: float


class Chooser:
    """A strategy at work on a task.

    Args:
        spec: rule and options.
        task: the frames.
        rows: features of pool, start and target; None for rules that need none.
        base: the pretrained potential's predictions for the pool.
        learner: asked for the members of a committee.
    """

    def __init__(
        self,
        spec: StrategySpec,
        task: Task,
        rows: Mapping[str, Featurised] | None,
        base: Callable[[], Sequence[Labels]],
        learner: Learner,
    ) -> None:
        self.spec = spec
        self.task = task
        self._rows = rows
        self._base = base
        self._learner = learner

    def with_rows(self, rows: Mapping[str, Featurised]) -> Chooser:
        """The same strategy, looking at other features."""
        return Chooser(self.spec, self.task, rows, self._base, self._learner)

    def __call__(self, situation: Situation) -> Choice:
        """The picks, best first.

        Raises:
            SelectionError: no candidate is left.
        """
        if self.spec.rule == COMMITTEE:
            return self._by_committee(situation)
        begin = core_seconds()
        rows = self._rows or self._bare_rows
        pool = rows["pool"]
        aimed = self.spec.target == "task"
        batch = acquire(
            pool,
            features_of(situation.labelled, rows),
            situation.count,
            lambda given: make_rule(self.spec.rule, given),
            noise=self.spec.noise,
            seed=situation.seed,
            target=rows["target"] if aimed else None,
            exclude=situation.excluded | self._left_out,
        )
        return Choice([pick.id for pick in batch.picks], core_seconds() - begin)

    def _by_committee(self, situation: Situation) -> Choice:
        votes, seconds = [], 0.0
        for member in range(self.spec.members):
            learnt = self._learner(situation.labelled, situation.seed + MEMBER * member, pool=True)
            assert learnt.pool is not None  # noqa: S101 - it was asked for
            votes.append(learnt.pool)
            seconds += learnt.seconds if member else 0.0
        score = spread(votes, self.spec.disagreement)
        taken = {*situation.labelled, *situation.excluded}
        order = [i for i in np.argsort(-score, kind="stable") if self.task.ids["pool"][i] not in taken]
        return Choice([self.task.ids["pool"][i] for i in order[: situation.count]], seconds)

    @cached_property
    def _bare_rows(self) -> dict[str, Featurised]:
        """Different rows for rules that look at none: chance must not see copies."""
        found = {}
        for number, part in enumerate(("pool", "start", "target")):
            ids = self.task.ids[part]
            column = np.arange(1, len(ids) + 1, dtype=np.float64)
            found[part] = Featurised(
                Features.one_row_each(np.stack([column, np.full(len(ids), number + 1.0)], axis=1)), ids
            )
        return found

    @cached_property
    def _left_out(self) -> frozenset[str]:
        if self.spec.shortlist is None:
            return frozenset()
        values = alarming(self._base(), self.task.pool, self.spec.shortlist.by)
        return outside(values, self.task.ids["pool"], self.spec.shortlist)


MEMBER = 7919
"""Seeds of a committee's members lie this far apart; the first member is the run's own training."""


def alarming(base: Sequence[Labels], pool: Sequence[Atoms], by: str) -> Float64Array:
    """What the pretrained potential finds extreme in every frame: see `Shortlist`."""
    if by == "force":
        return np.array([np.abs(label.forces).max() for label in base])
    energies = np.array([label.energy / len(label.forces) for label in base])
    formulas = np.array([atoms.get_chemical_formula() for atoms in pool])
    for formula in np.unique(formulas):
        energies[formulas == formula] -= energies[formulas == formula].min()
    return energies


def outside(values: Float64Array, ids: Sequence[str], shortlist: Shortlist) -> frozenset[str]:
    """Ids of the frames that are not among the lowest share."""
    limit = np.quantile(values, shortlist.share)
    return frozenset(name for name, value in zip(ids, values, strict=True) if value > limit)


def features_of(names: Mapping[str, Atoms], rows: Mapping[str, Featurised]) -> Featurised:
    """Features of labelled frames, whether they came from the pool or the start."""
    place = {name: (part, i) for part in ("start", "pool") for i, name in enumerate(rows[part].ids)}
    parts = [rows[place[name][0]].features.take([place[name][1]]) for name in names]
    features = Features.concatenate(parts) if parts else Features.empty(rows["pool"].features.dim)
    return Featurised(features, tuple(names))


def seed_of(*parts: object) -> int:
    """A seed that depends on all parts, the same on every machine."""
    return zlib.crc32("|".join(str(part) for part in parts).encode()) % 2**31
