"""Farthest-point selection: every pick is as far as can be from labelled structures and earlier picks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surveyor.linalg import block_norms, row_blocks
from surveyor.selection.bounds import Bounds
from surveyor.selection.lazy import Lazy
from surveyor.selection.pool import Pool
from surveyor.selection.rule import PricedRule, Request, Score
from surveyor.types import Features, Float64Array, IndexArray


class DistanceBounds(Bounds):
    """Score of farthest-point selection: squared distance to the nearest centre.

    Before there is any centre, a row's distance is that from the origin.

    | variable | shape          | meaning                             |
    |----------|----------------|-------------------------------------|
    | centres  | (centres, dim) | labelled rows, then the picks' rows |
    """

    def __init__(self, pool: Pool, train: Features, weight: Float64Array | None = None) -> None:
        # copied: picks are appended
        blocks = [block for _, block in row_blocks(train.values)]
        self._centres = np.concatenate(blocks) if blocks else np.zeros((0, pool.dim))
        self._centre_norms = block_norms(self._centres)
        self._working: NDArray[np.floating] = self._centres.astype(pool.dtype)
        first = pool.norms.copy() if len(self._centres) == 0 else np.full(pool.n_rows, np.inf)
        super().__init__(pool, first, weight)

    @property
    def n_vectors(self) -> int:
        return len(self._centres)

    def condition(self, structure: int) -> None:
        if len(self._centres) == 0:  # distances from the origin end here
            self.row_bound[:] = np.inf
            self.bounds[:] = np.inf
        rows = self.pool.structure(structure)
        self._centres = np.concatenate([self._centres, rows])
        self._centre_norms = np.concatenate([self._centre_norms, block_norms(rows)])
        self._working = np.concatenate([self._working, rows.astype(self.pool.dtype)])

    def _absorb(self, rows: IndexArray, values: NDArray[np.floating], start: int, stop: int) -> None:
        product = (values @ self._working[start:stop].T).astype(np.float64)
        size = self.norms[rows, None] + self._centre_norms[start:stop]
        distance = np.maximum(size - 2.0 * product, 0.0) + 0.5 * self.loose * size
        self.row_bound[rows] = np.minimum(self.row_bound[rows], distance.min(axis=1))

    def _fold(self, structures: IndexArray, per_row: Float64Array) -> Float64Array:
        if self.pool.single:
            return per_row
        return np.asarray(np.maximum.reduceat(per_row, self.pool.segments(structures)), dtype=np.float64)

    def _exact(self, structures: IndexArray) -> tuple[Float64Array, Float64Array]:
        rows = self.pool.rows_of(structures)
        if len(self._centres) == 0:
            distance, error = self.norms[rows], self.tight * self.norms[rows]
        else:
            values = self.pool.take(rows).astype(np.float64)
            size = self.norms[rows, None] + self._centre_norms
            squares = np.maximum(size - 2.0 * values @ self._centres.T, 0.0)
            nearest = squares.argmin(axis=1)
            own = np.arange(len(rows))
            distance, error = squares[own, nearest], 0.5 * self.tight * size[own, nearest]
            self.absorbed[rows] = self.n_vectors
            self.row_bound[rows] = np.minimum(self.row_bound[rows], distance + error)
        return self._fold(structures, distance), self._fold(structures, error)


@dataclass(frozen=True, eq=False)
class FarthestPoint(PricedRule):
    """Farthest from labelled structures and picks; plain coverage.

        next = argmax min |φ(x) − c|²        over the rows c of labelled structures and picks
        next = argmax min |φ(x) − c|² / cost(x)

    A structure of several rows is as far as its farthest row, and all its rows become centres. Without any
    labelled row the first pick is the row of largest norm. Scores are squared distances (unit of |φ|²).

    Source: Gonzalez, Theor. Comput. Sci. 38 (1985) 293, doi:10.1016/0304-3975(85)90224-5; Sener &
    Savarese, ICLR 2018, arXiv:1708.00489 (as core-set selection).
    """

    def score(self, request: Request) -> Score:
        return Lazy(DistanceBounds(request.view, request.train, request.weight))
