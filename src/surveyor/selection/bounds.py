"""Upper bounds on a score that falls as picks are conditioned on, brought up to date where it matters."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from surveyor.selection.pool import Pool
from surveyor.selection.rounding import relative_error
from surveyor.types import Float64Array, IndexArray

FIRST_STAGE = 32


class Bounds(ABC):
    """For every row a bound, and how many of the vectors seen so far it has absorbed.

    A stale row costs nothing until its bound could win. Then blocks of rows absorb the vectors they lack
    with one matrix product, in stages (32 vectors, then 64, …): most rows drop out after the first.

    | variable  | shape         | meaning                                                        |
    |-----------|---------------|----------------------------------------------------------------|
    | norms     | (rows,)       | |x|²                                                           |
    | absorbed  | (rows,)       | number of vectors that the row's bound accounts for            |
    | row_bound | (rows,)       | the row's score is at most this                                |
    | bounds    | (structures,) | the structure's weighted score is at most this                 |
    | weight    | (structures,) | factor on the score (1/cost), or None for 1                    |
    | loose     | scalar        | η of the working dtype, see `rounding`                         |
    | tight     | scalar        | η of float64                                                   |
    """

    def __init__(self, pool: Pool, row_bound: Float64Array, weight: Float64Array | None = None) -> None:
        self.pool = pool
        self.norms = pool.norms
        self.weight = weight
        self.row_bound = row_bound
        self.absorbed = np.zeros(pool.n_rows, dtype=np.int32)
        self.loose = relative_error(pool.dim, pool.dtype)
        self.tight = relative_error(pool.dim, np.float64)
        self.bounds = np.full(pool.n_structures, np.inf)
        self._lower(np.arange(pool.n_structures, dtype=np.intp))

    @property
    @abstractmethod
    def n_vectors(self) -> int:
        """Vectors that an up-to-date row has absorbed."""

    @abstractmethod
    def _absorb(self, rows: IndexArray, values: NDArray[np.floating], start: int, stop: int) -> None:
        """Lower `row_bound` by vectors start … stop, leaving out those that a row has absorbed already."""

    @abstractmethod
    def _fold(self, structures: IndexArray, per_row: Float64Array) -> Float64Array:
        """Bound of each structure from the bounds of its rows (as `pool.rows_of` orders them)."""

    @abstractmethod
    def _exact(self, structures: IndexArray) -> tuple[Float64Array, Float64Array]:
        """Float64 scores of the structures, and how far rounding may have moved each; unweighted."""

    @abstractmethod
    def condition(self, structure: int) -> None:
        """Take the structure's rows as labelled."""

    def tighten(self, structures: IndexArray, level: float, *, keep: bool = True) -> None:
        """Lower the structures' bounds until each is up to date or at most `level`."""
        rows = self.pool.rows_of(structures)
        member = np.arange(len(structures))
        if not self.pool.single:
            member = np.repeat(member, np.diff(np.append(self.pool.segments(structures), len(rows))))
        stale = self.absorbed[rows] < self.n_vectors
        if not stale.all():
            rows, member = rows[stale], member[stale]
        if len(rows) == 0:
            return
        values = self.pool.take(rows, keep=keep)
        stage = FIRST_STAGE
        left = np.ones(len(rows), dtype=bool)
        while left.any():
            if np.count_nonzero(left) < 0.75 * len(left):  # below that, copying the rows that are left pays
                rows, member, values = rows[left], member[left], values[left]
            start = int(self.absorbed[rows].min())
            stop = min(start + stage, self.n_vectors)
            behind = self.absorbed[rows] < stop
            if behind.all():
                self._absorb(rows, values, start, stop)
                self.absorbed[rows] = stop
            else:
                self._absorb(rows[behind], values[behind], start, stop)
                self.absorbed[rows[behind]] = stop
            self._lower(structures)
            left = (self.bounds[structures] > level)[member] & (self.absorbed[rows] < self.n_vectors)
            stage *= 2

    def exact(self, structures: IndexArray) -> tuple[Float64Array, Float64Array]:
        """Weighted float64 scores of the structures and their rounding errors; they become the bounds."""
        value, error = self._exact(structures)
        if self.weight is not None:
            value, error = value * self.weight[structures], error * self.weight[structures]
        self.bounds[structures] = np.minimum(self.bounds[structures], value + error)
        return value, error

    def _lower(self, structures: IndexArray) -> None:
        folded = self._fold(structures, self.row_bound[self.pool.rows_of(structures)])
        if self.weight is not None:
            folded = folded * self.weight[structures]
        self.bounds[structures] = np.minimum(self.bounds[structures], folded)
