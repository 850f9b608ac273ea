"""Target-variance picks foreseen among a few structures, and made certain for many picks by one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from surveyor.selection.ceilings import Ceilings
from surveyor.selection.gains import Gains, Label, Targets
from surveyor.selection.pool import Pool
from surveyor.selection.rule import Request, Score, Ties, tied
from surveyor.types import Features, Float64Array, IndexArray

MEMBERS = 1024
AHEAD = 32
MOST_EXTRA = 8192


def gains(request: Request, targets: Targets, multiple: Float64Array | None = None) -> Score:
    """The gains of a request's pool; `multiple` as in `Gains`."""
    view = request.view
    # squares of squares of very long or short rows do not fit into single precision
    sizes = float(view.norms.max()), float((targets.root**2).sum())
    if view.single and view.n_structures > 4 * MEMBERS and all(1e-6 < size < 1e6 for size in sizes):
        return Ahead(request, targets, multiple)
    return Gains(request.view, targets, request.weight, multiple)


class Ahead(Score):
    """Gains of structures of one row each, in float64 where they may win; the picks are those of `Gains`.

    A few members, the structures of highest bounds, are picked from as if they were the pool: that foretells
    the next picks and how high each scores. One pass then bounds the gains of all structures before each of
    these picks (`Ceilings`), and whatever may score as high as the one foretold joins the members.

    Proof that `best` gives the best of all that are allowed: while the picks made are those foretold, the
    bounds hold, so that whoever is no member scores less than the pick foretold, and loses to the best member
    if that scores no lower. Otherwise (another pick was made, the best member scores lower because the one
    foretold is not allowed any more, a structure is allowed that was not) a new pass is made. Nothing is
    asked of the gains, which may rise or fall.

    | variable | shape     | meaning                                                             |
    |----------|-----------|---------------------------------------------------------------------|
    | now      |           | bounds before the picks foretold                                    |
    | marks    |           | bounds on the way, by the number of them that is labelled           |
    | foretold | (≤ ahead,) | structures                                                         |
    | levels   | (≤ ahead,) | what each scores; whoever is no member scores less at that moment  |
    | picked   |           | structures picked since the last pass, with their labels `since`    |
    | whole    |           | gains of the whole pool, where nothing tells its structures apart   |
    """

    def __init__(
        self,
        request: Request,
        targets: Targets,
        multiple: Float64Array | None = None,
        *,
        members: int = MEMBERS,
        ahead: int = AHEAD,
    ) -> None:
        self.passes = 1
        self._pool = request.view
        self._rank, self._weight = request.rank, request.weight
        self._multiple = np.ones(request.view.n_structures) if multiple is None else multiple
        self._targets = targets
        self._count, self._most = members, ahead
        self._now = Ceilings(self._pool, targets, self._weight, multiple)
        self._marks = {0: self._now}
        self._depth = 1
        self._foretold: list[int] = []
        self._levels: list[float] = []
        self._picked: list[int] = []
        self._since: list[Label] = []
        self._boards: list[tuple[IndexArray, Gains]] = []
        self._whole: Gains | None = None

    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        if self._whole is None and not self._certain(allowed):
            self._look(allowed)
        if self._whole is not None:
            return self._whole.best(allowed)
        return tied(*self._scores(allowed))

    def take(self, structure: int) -> None:
        if self._whole is not None:
            self._whole.take(structure)
            return
        label = self._targets.label(self._pool.structure(structure) / np.sqrt(self._multiple[structure]))
        for _, board in self._boards:
            board.absorb(label)
        self._picked.append(structure)
        self._since.append(label)

    def _scores(self, allowed: NDArray[np.bool_]) -> tuple[IndexArray, Float64Array, Float64Array]:
        """The members that are allowed, their scores, and how far rounding may have moved each."""
        open_ = [allowed[members] for members, _ in self._boards]
        return (
            np.concatenate([members[own] for (members, _), own in zip(self._boards, open_, strict=True)]),
            np.concatenate([board.value[own] for (_, board), own in zip(self._boards, open_, strict=True)]),
            np.concatenate([board.error[own] for (_, board), own in zip(self._boards, open_, strict=True)]),
        )

    def _certain(self, allowed: NDArray[np.bool_]) -> bool:
        made = len(self._picked)
        if made >= len(self._levels) or self._picked != self._foretold[:made]:
            return False
        if (allowed & ~self._allowed).any():
            return False
        _, value, error = self._scores(allowed)
        return len(value) > 0 and float((value - error).max()) >= self._levels[made]

    def _look(self, allowed: NDArray[np.bool_]) -> None:
        """Foretell picks, and bound all gains on the way there."""
        came_true = self._came_true()
        all_true = came_true == len(self._foretold)
        self._depth = min(2 * self._depth, self._most) if all_true else max(1, came_true)
        done = max(number for number in self._marks if number <= came_true)
        self._now = self._marks[done]
        if behind := self._since[done:]:
            self._now = self._now.sweep(behind, [])[1][len(behind)]
            self.passes += 1
        members = self._members(allowed)
        board = self._board(members)
        labels = self._foretell(members, board.branch(), allowed)
        self._allowed, self._picked, self._since = allowed.copy(), [], []
        reached, marks = self._now.sweep(labels, self._levels)
        self._marks = {0: self._now, **marks}
        self.passes += 1
        reached[~allowed] = reached[members] = len(labels)
        counts = np.cumsum(np.bincount(reached, minlength=len(labels) + 1)[: len(labels)])
        if counts[0] > max(MOST_EXTRA, self._pool.n_structures // 50):
            # nothing tells most of the pool apart: score all of it from here on
            self._whole = Gains(self._pool, self._targets, self._weight, self._multiple)
            return
        sure = max(1, int(np.searchsorted(counts, self._count, side="right")))
        self._levels = self._levels[:sure]
        extra = np.flatnonzero(reached < sure)
        self._boards = [(members, board), *([(extra, self._board(extra))] if len(extra) else [])]

    def _came_true(self) -> int:
        """How many picks were foretold before the first that was not."""
        same = [one == other for one, other in zip(self._picked, self._foretold, strict=False)]
        return same.index(False) if False in same else len(same)

    def _members(self, allowed: NDArray[np.bool_]) -> IndexArray:
        among = np.flatnonzero(allowed)
        count = min(self._count, len(among))
        return np.sort(among[np.argpartition(-self._now.values()[among], count - 1)[:count]])

    def _board(self, members: IndexArray) -> Gains:
        rows = self._pool.take(members)
        part = Features(rows, np.arange(len(members)), len(members), finite=True)
        weight = None if self._weight is None else self._weight[members]
        return Gains(Pool(part), self._targets, weight, self._multiple[members])

    def _foretell(self, members: IndexArray, board: Gains, allowed: NDArray[np.bool_]) -> list[Label]:
        """Pick from the members as if there were no others; returns what the picks do."""
        open_ = allowed[members]
        self._levels, self._foretold = [], []
        labels: list[Label] = []
        while len(labels) < self._depth and open_.any():
            self._levels.append(float((board.value - board.error)[open_].max()))
            ties, _ = board.best(open_)
            first = int(ties[np.argmin(self._rank[members[ties]])])
            labels.append(board.label(first))
            self._foretold.append(int(members[first]))
            open_[first] = False
        return labels
