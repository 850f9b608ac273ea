"""Largest-cluster maximum-distance selection (LCMD): far points, but where many points are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surveyor.linalg import block_norms, row_blocks
from surveyor.selection.pool import Pool
from surveyor.selection.projection import Projection
from surveyor.selection.rounding import relative_error
from surveyor.selection.rule import PricedRule, Request, Score, Ties
from surveyor.types import Features, Float64Array, IndexArray

TIE = 1e-12
CENTRES = 256
BLOCK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class LCMD(PricedRule):
    """Far structures, but where many are: crowded regions count for more than empty ones.

    Every pool row belongs to the cluster of its nearest centre c(x); labelled rows are the first centres.

        size(c) = Σ |φ(x) − c|² / cost(x)  over the rows of cluster c that may still be picked
        next    = argmax |φ(x) − c|² / cost(x)  in the cluster of largest size;  it becomes a centre

    Scores are squared distances (unit of |φ|²), over the cost where there are costs. A structure of several
    rows is picked when one of them wins, and all its rows become centres. Without any labelled row the first
    pick is the row of largest norm. Zero rows add to no cluster and copies of labelled rows have distance 0,
    so that both come last.

    Source: Holzmüller et al., JMLR 24 (2023) 164, arXiv:2203.09410 (LCMD, without costs).
    """

    def score(self, request: Request) -> Score:
        return Clusters(request.view, request.train, request.weight)


class Clusters(Score):
    """Nearest centre of every row, exact in float64; a new centre reads only rows that it could attract.

    | variable | shape   | meaning                                                              |
    |----------|---------|----------------------------------------------------------------------|
    | nearest  | (rows,) | number of the nearest centre                                         |
    | distance | (rows,) | squared distance to it                                               |
    | weight   | (rows,) | one over the price of the row's structure; 1 without prices          |
    | mass     | (rows,) | distance × weight; 0 for zero rows, and where no pick is allowed     |
    """

    def __init__(self, pool: Pool, train: Features, weight: Float64Array | None = None) -> None:
        self.pool = pool
        self._owner = pool.features.owner
        self._weight = np.ones(pool.n_rows) if weight is None else weight[self._owner]
        self._norms = pool.norms
        self._projection = Projection(pool)
        self._unit = relative_error(pool.dim, pool.dtype)
        self._open = np.ones(pool.n_structures, dtype=bool)
        self._heavy = self._norms > 0
        self._centres = 0
        self.nearest = np.zeros(pool.n_rows, dtype=np.int32)
        self.distance = self._norms.copy()  # from the origin, until there is a centre
        self.mass = self.distance * self._weight
        for _, centres in row_blocks(train.values, size=CENTRES):
            self._assign(np.asarray(centres, dtype=np.float64))

    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        closed = self.pool.rows_of(np.flatnonzero(self._open & ~allowed))
        self._heavy[closed] = False
        self.mass[closed] = 0.0
        self._open = allowed.copy()
        sizes = np.bincount(self.nearest, weights=self.mass)
        largest = sizes.max()
        if largest == 0.0:  # copies of centres and zero rows only
            rows = np.flatnonzero(allowed[self._owner])
        else:
            rows = np.concatenate([self._tops(int(c)) for c in np.flatnonzero(sizes >= (1 - TIE) * largest)])
        return self._owner[rows], self.distance[rows] * self._weight[rows]

    def _tops(self, centre: int) -> IndexArray:
        rows = np.flatnonzero(self.nearest == centre)
        mass = self.mass[rows]
        return np.asarray(rows[mass >= (1 - TIE) * mass.max()], dtype=np.intp)

    def take(self, structure: int) -> None:
        """Make the structure's rows centres."""
        rows = self.pool.structure(structure)
        if self._centres == 0:
            self._assign(rows)
            return
        for centre in rows:
            working, norm = centre.astype(self.pool.dtype), float(centre @ centre)
            near = self._projection.closer(centre, self.distance)
            for start in range(0, len(near), BLOCK_ROWS):
                part = near[start : start + BLOCK_ROWS]
                values = self.pool.take(part)
                size = self._norms[part] + norm
                least = size - 2.0 * (values @ working) - 0.5 * self._unit * size
                closer = least < self.distance[part]
                part, values = part[closer], values[closer]
                self._move(part, _squared_distances(values, centre), self._centres)
            self._centres += 1

    def _move(self, rows: IndexArray, distance: Float64Array, centre: IndexArray | int) -> None:
        closer = distance < self.distance[rows]
        moved = rows[closer]
        self.distance[moved] = distance[closer]
        self.mass[moved] = np.where(self._heavy[moved], distance[closer] * self._weight[moved], 0.0)
        self.nearest[moved] = centre if isinstance(centre, int) else centre[closer]

    def _assign(self, centres: Float64Array) -> None:
        """Take many centres at once: the working dtype finds the nearest, float64 settles what is close."""
        if self._centres == 0:
            self.distance[:] = np.inf
        working = centres.astype(self.pool.dtype)
        half = block_norms(centres) / 2
        for start in range(0, self.pool.n_rows, BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, self.pool.n_rows), dtype=np.intp)
            values = self.pool.take(rows, keep=False)
            nearness = values @ working.T  # x·c − |c|²/2, largest where |x − c|² is least
            nearness -= half.astype(self.pool.dtype)
            first = nearness.argmax(axis=1)
            top = nearness[np.arange(len(rows)), first]
            slack = (self._unit * (self._norms[rows] + 2 * half.max())).astype(self.pool.dtype)
            rivals = nearness >= (top - slack)[:, None]
            distance = _squared_distances(values, centres[first])
            several = np.flatnonzero(np.count_nonzero(rivals, axis=1) > 1)
            if len(several):
                first[several], distance[several] = _settle(values, centres, several, rivals[several])
            self._move(rows, distance, self._centres + first)
        self._centres += len(centres)


def _settle(
    values: NDArray[np.floating], centres: Float64Array, rows: IndexArray, rivals: NDArray[np.bool_]
) -> tuple[IndexArray, Float64Array]:
    """The nearest of each row's rival centres in float64, the earliest if several are, and its distance."""
    pair_row, pair_centre = np.nonzero(rivals)
    distance = np.empty(len(pair_row))
    for start in range(0, len(pair_row), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        distance[part] = _squared_distances(values[rows[pair_row[part]]], centres[pair_centre[part]])
    begin = np.searchsorted(pair_row, np.arange(len(rows)))
    least = np.minimum.reduceat(distance, begin)
    hits = np.flatnonzero(distance == least[pair_row])
    chosen = hits[np.searchsorted(pair_row[hits], np.arange(len(rows)))]
    return pair_centre[chosen], least


def _squared_distances(values: NDArray[np.floating], centres: Float64Array) -> Float64Array:
    """|x − c|² of every row in float64, from the differences: exactly 0 for a copy."""
    result = np.empty(len(values))
    for start in range(0, len(values), 256):
        part = values[start : start + 256].astype(np.float64)
        part -= centres if centres.ndim == 1 else centres[start : start + 256]
        result[start : start + 256] = block_norms(part)
    return result
