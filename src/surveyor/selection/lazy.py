"""Exact lazy greedy selection: bounds decide which scores need computing, never which structure wins."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from surveyor.selection.bounds import Bounds
from surveyor.selection.novelty import Novelty
from surveyor.selection.purse import Purse
from surveyor.types import Float64Array, IndexArray, Selection, Stopped

SHORTLIST = 64
CHUNK = 256
BULK_ROWS = 8192
READ_AHEAD = 0.7


@dataclass(frozen=True, eq=False)
class Limits:
    """When to stop, and what a structure costs.

    | variable    | shape          | meaning                                             |
    |-------------|----------------|-----------------------------------------------------|
    | k           | scalar         | at most so many picks                               |
    | threshold   | scalar or None | stop when the best score falls below it             |
    | purse       |                | what labels cost; every pick is paid from it        |
    | conditioned | flag           | whether a pick counts as labelled for the next pick |
    """

    k: int
    threshold: float | None = None
    purse: Purse = field(default_factory=Purse)
    conditioned: bool = True


def lazy_greedy(score: Bounds, novelty: Novelty, limits: Limits, rank: IndexArray | None = None) -> Selection:
    """The picks of plain greedy selection (score all, take the best, condition), without scoring all.

    A score only falls as picks are conditioned on, so a stale score is an upper bound. Each pick brings a
    shortlist up to date, then every structure whose bound still exceeds the best found, and re-scores in
    float64 what comes within rounding of the best. Scores that rounding cannot tell apart are ties; the
    lowest `rank` (by default the lowest index) wins. Copies of labelled structures wait until nothing
    novel is left.

    Source: Minoux, Optimization Techniques (1978) 234, doi:10.1007/BFb0006528 (accelerated greedy).
    """
    search = _Search(score, rank)
    waiting: dict[int, float] = {}
    picks: list[int] = []
    scores: list[float] = []
    gated = True
    stopped = Stopped.FILLED
    while len(picks) < limits.k:
        score.bounds[limits.purse.too_dear()] = -np.inf
        best = search.best()
        if best is None:
            if not waiting:
                left = len(score.bounds) - len(picks)
                stopped = Stopped.BUDGET_SPENT if left else Stopped.EXHAUSTED
                break
            score.bounds[list(waiting)] = list(waiting.values())
            waiting, gated = {}, False
            continue
        winner, value = best
        rows = score.pool.structure(winner)
        if gated and rows not in novelty:
            copies = novelty.copies(score.pool, np.flatnonzero(score.bounds > -np.inf), winner)
            waiting.update(zip(copies.tolist(), score.bounds[copies].tolist(), strict=True))
            score.bounds[copies] = -np.inf
            continue
        if limits.threshold is not None and value < limits.threshold:
            stopped = Stopped.BELOW_THRESHOLD
            break
        picks.append(winner)
        scores.append(value)
        score.bounds[winner] = -np.inf
        limits.purse.pay(winner)
        if limits.conditioned:
            novelty.add(rows)
            score.condition(winner)
    if len(picks) == len(score.bounds):
        stopped = Stopped.EXHAUSTED
    return Selection(np.array(picks, dtype=np.intp), np.array(scores, dtype=np.float64), stopped)


class _Search:
    """Finds the best structure of the current round, and remembers where to look first in the next."""

    def __init__(self, score: Bounds, rank: IndexArray | None) -> None:
        self._score = score
        self._rank = rank
        self._round = 0
        self._checked = np.zeros(len(score.bounds), dtype=np.int32)
        count = min(SHORTLIST, len(score.bounds))
        self._shortlist = np.argpartition(-score.bounds, count - 1)[:count]
        self._bulk = max(1, BULK_ROWS * len(score.bounds) // score.pool.n_rows)

    def best(self) -> tuple[int, float] | None:
        """The structure of the highest score with that score, or None if all are taken."""
        score = self._score
        self._round += 1
        self._level = -np.inf
        self._found: list[tuple[IndexArray, Float64Array, Float64Array]] = []
        shortlist = self._shortlist[score.bounds[self._shortlist] > -np.inf]
        score.tighten(shortlist, -np.inf)
        self._check(shortlist)
        open_ = np.flatnonzero(score.bounds >= max(self._level, -np.finfo(np.float64).max))
        open_ = open_[self._checked[open_] != self._round]
        if len(open_) > 4 * self._bulk:  # most of the pool, as at the start: read it in order
            for start in range(0, len(open_), self._bulk):
                self._try(open_[start : start + self._bulk], self._level, keep=False)
        else:
            self._near(open_)
        if not self._found:
            return None
        structures, values, errors = (np.concatenate(part) for part in zip(*self._found, strict=True))
        ties = structures[values + errors >= self._level]
        winner = int(ties.min() if self._rank is None else ties[np.argmin(self._rank[ties])])
        near = np.union1d(structures, shortlist)
        order = np.argsort(-score.bounds[near], kind="stable")
        self._shortlist = near[order[: SHORTLIST + 1]]
        return winner, float(values[structures == winner][0])

    def _near(self, open_: IndexArray) -> None:
        """Best bound first, in chunks that grow as a rise of the level gets less likely."""
        score = self._score
        slow = score.pool.missing(score.pool.rows_of(open_))
        aim = min(READ_AHEAD * self._level, self._level) if slow else self._level
        if slow:  # fetch what the next rounds will ask for, too
            open_ = np.flatnonzero(score.bounds >= aim)
            open_ = open_[self._checked[open_] != self._round]
        open_ = open_[np.argsort(-score.bounds[open_], kind="stable")]
        size = CHUNK
        while len(open_):
            self._try(open_[:size], aim if slow else self._level)
            open_ = open_[size:]
            size = min(2 * size, self._bulk)

    def _try(self, chunk: IndexArray, level: float, *, keep: bool = True) -> None:
        chunk = chunk[self._score.bounds[chunk] >= level]
        self._score.tighten(np.sort(chunk), level, keep=keep)
        self._check(chunk)

    def _check(self, structures: IndexArray) -> None:
        """Score in float64, best bound first, whatever may still be the best or tie with it."""
        score = self._score
        structures = structures[score.bounds[structures] >= self._level]
        structures = structures[np.argsort(-score.bounds[structures], kind="stable")]
        step = 4
        while len(structures):
            batch, structures = structures[:step], structures[step:]
            values, errors = score.exact(batch)
            self._checked[batch] = self._round
            self._found.append((batch, values, errors))
            self._level = max(self._level, float((values - errors).max()))
            structures = structures[score.bounds[structures] >= self._level]
            step *= 2
