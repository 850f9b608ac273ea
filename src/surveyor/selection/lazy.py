"""Exact lazy greedy selection: bounds decide which scores need computing, never which structure wins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from surveyor.selection.bounds import Bounds
from surveyor.selection.rule import Score, Ties, tied
from surveyor.types import Float64Array, IndexArray

SHORTLIST = 64
CHUNK = 256
BULK_ROWS = 8192
READ_AHEAD = 0.7


class Lazy(Score):
    """A score that only falls as picks are conditioned on, so that a stale score is an upper bound.

    Each pick brings a shortlist up to date, then every structure whose bound still exceeds the best found,
    and re-scores in float64 what comes within rounding of the best: the picks are those of scoring all.

    Source: Minoux, Optimization Techniques (1978) 234, doi:10.1007/BFb0006528 (accelerated greedy).
    """

    def __init__(self, bounds: Bounds) -> None:
        self._score = bounds
        self._round = 0
        self._checked = np.zeros(len(bounds.bounds), dtype=np.int32)
        count = min(SHORTLIST, len(bounds.bounds))
        self._shortlist = np.argpartition(-bounds.bounds, count - 1)[:count]
        self._bulk = max(1, BULK_ROWS * len(bounds.bounds) // bounds.pool.n_rows)

    def take(self, structure: int) -> None:
        self._score.condition(structure)

    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        score = self._score
        self._round += 1
        self._allowed = allowed
        self._level = -np.inf
        self._found: list[tuple[IndexArray, Float64Array, Float64Array]] = []
        shortlist = self._shortlist[allowed[self._shortlist]]
        score.tighten(shortlist, -np.inf)
        self._check(shortlist)
        rest = self._unchecked(self._level)
        if len(rest) > 4 * self._bulk:  # most of the pool, as at the start: read it in order
            for start in range(0, len(rest), self._bulk):
                self._try(rest[start : start + self._bulk], self._level, keep=False)
        else:
            self._near(rest)
        structures, values, errors = (np.concatenate(part) for part in zip(*self._found, strict=True))
        near = np.union1d(structures, shortlist)
        order = np.argsort(-score.bounds[near], kind="stable")
        self._shortlist = near[order[: SHORTLIST + 1]]
        return tied(structures, values, errors)

    def _unchecked(self, level: float) -> IndexArray:
        """Structures that may reach the level and have not been scored in this round."""
        found = np.flatnonzero((self._score.bounds >= level) & self._allowed)
        return np.asarray(found[self._checked[found] != self._round])

    def _near(self, rest: IndexArray) -> None:
        """Best bound first, in chunks that grow as a rise of the level gets less likely."""
        score = self._score
        slow = score.pool.missing(score.pool.rows_of(rest))
        aim = min(READ_AHEAD * self._level, self._level) if slow else self._level
        if slow:  # fetch what the next rounds will ask for, too
            rest = self._unchecked(aim)
        rest = rest[np.argsort(-score.bounds[rest], kind="stable")]
        size = CHUNK
        while len(rest):
            self._try(rest[:size], aim if slow else self._level)
            rest = rest[size:]
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
