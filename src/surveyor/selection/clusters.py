"""Largest-cluster maximum-distance selection (LCMD): far points, but where many points are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surveyor.linalg import block_norms, row_blocks, squared_norms
from surveyor.selection.border import check_request, check_threshold, one_row_each, rank_of
from surveyor.selection.novelty import Novelty
from surveyor.selection.pool import Pool, finite_norms
from surveyor.selection.projection import Projection
from surveyor.selection.rounding import relative_error
from surveyor.types import Features, Float64Array, IndexArray, Selection, Stopped

TIE = 1e-12
CENTRES = 256
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class LCMD:
    """Largest cluster maximum distance.

    Every pool row belongs to the cluster of its nearest centre c(x); labelled rows are the first centres.

        size(c) = Σ |φ(x) − c|²  over the rows of cluster c
        next    = argmax |φ(x) − c|²  in the cluster of largest size;  it becomes a centre

    Scores are squared distances (unit of |φ|²). A structure of several rows is picked when one of them
    wins, and all its rows become centres. Without any labelled row the first pick is the row of largest
    norm. Zero rows and copies of labelled structures wait until nothing novel is left, and count in no
    cluster from when they would have won.

    | variable  | shape          | meaning                                 |
    |-----------|----------------|-----------------------------------------|
    | threshold | scalar or None | stop when the best score falls below it |

    Source: Holzmüller et al., JMLR 24 (2023) 164, arXiv:2203.09410, section 5.2.8 and algorithm 8.
    """

    threshold: float | None = None

    def __call__(
        self,
        pool: Features,
        train: Features,
        k: int,
        *,
        rng: np.random.Generator | None = None,  # noqa: ARG002 - the rule draws nothing
        rank: IndexArray | None = None,
    ) -> Selection:
        """k structures, best first; ties go to the lowest `rank` (by default the lowest index).

        Raises:
            SelectionError: k ≤ 0, an empty pool, or rows of two widths.
            FeatureError: a pool row is too large to square.
        """
        check_request(pool, train, k)
        check_threshold(self.threshold)
        clusters = _Clusters(Pool(pool), train, np.arange(len(pool)) if rank is None else rank)
        novelty = Novelty(train.values)
        picks: list[int] = []
        scores: list[float] = []
        waiting: list[int] = []
        stopped = Stopped.FILLED
        gated = True
        while len(picks) < k:
            best = clusters.farthest()
            if best is None:
                if not waiting:
                    stopped = Stopped.EXHAUSTED
                    break
                clusters.restore(waiting)
                waiting, gated = [], False
                continue
            winner, value = best
            rows = clusters.pool.structure(winner)
            if gated and rows not in novelty:
                waiting.append(winner)
                clusters.close(winner)
                continue
            if self.threshold is not None and value < self.threshold:
                stopped = Stopped.BELOW_THRESHOLD
                break
            picks.append(winner)
            scores.append(value)
            novelty.add(rows)
            clusters.close(winner)
            if len(picks) < k:
                clusters.add(rows)
        if len(picks) == len(pool):
            stopped = Stopped.EXHAUSTED
        return Selection(np.array(picks, dtype=np.intp), np.array(scores, dtype=np.float64), stopped)


class _Clusters:
    """Nearest centre of every row, exact in float64; a new centre reads only rows that it could attract.

    | variable | shape   | meaning                                                              |
    |----------|---------|----------------------------------------------------------------------|
    | nearest  | (rows,) | number of the nearest centre                                         |
    | distance | (rows,) | squared distance to it                                               |
    | mass     | (rows,) | the same, 0 once the row's structure is picked or set aside          |
    """

    def __init__(self, pool: Pool, train: Features, rank: IndexArray) -> None:
        self.pool = pool
        self._rank = rank
        self._owner = pool.features.owner
        self._norms = finite_norms(pool, squared_norms(pool.values))
        self._projection = Projection(pool, self._norms)
        self._open = np.ones(pool.n_rows, dtype=bool)
        self._centres = 0
        self.nearest = np.zeros(pool.n_rows, dtype=np.int32)
        self.distance = self._norms.copy()  # from the origin, until there is a centre
        self.mass = self.distance.copy()
        for _, centres in row_blocks(train.values, size=CENTRES):
            self._assign(centres)

    def farthest(self) -> tuple[int, float] | None:
        """The structure to pick next with its squared distance, or None if none is left."""
        if not self._open.any():
            return None
        sizes = np.bincount(self.nearest, weights=self.mass)
        largest = sizes.max()
        if largest == 0.0:  # copies of centres only
            rows = np.flatnonzero(self._open)
        else:
            rows = np.concatenate([self._tops(int(c)) for c in np.flatnonzero(sizes >= (1 - TIE) * largest)])
        owners = self._owner[rows]
        best = int(np.argmin(self._rank[owners]))
        return int(owners[best]), float(self.distance[rows[best]])

    def _tops(self, centre: int) -> IndexArray:
        rows = np.flatnonzero(self.nearest == centre)
        mass = self.mass[rows]
        return rows[mass >= (1 - TIE) * mass.max()]

    def close(self, structure: int) -> None:
        """The structure is picked or set aside: it can no longer win, and adds to no cluster."""
        rows = slice(self.pool.starts[structure], self.pool.starts[structure + 1])
        self._open[rows] = False
        self.mass[rows] = 0.0

    def restore(self, structures: list[int]) -> None:
        """Take structures in again that were set aside."""
        rows = self.pool.rows_of(np.sort(np.array(structures, dtype=np.intp)))
        self._open[rows] = True
        self.mass[rows] = self.distance[rows]

    def add(self, rows: Float64Array) -> None:
        """Take the rows of a pick as centres."""
        if self._centres == 0:
            self._assign(rows)
            return
        for centre in rows:
            near = self._projection.closer(centre, self.distance)
            for start in range(0, len(near), BLOCK_ROWS):
                part = near[start : start + BLOCK_ROWS]
                self._move(part, _squared_distances(self.pool.take(part), centre), self._centres)
            self._centres += 1

    def _move(self, rows: IndexArray, distance: Float64Array, centre: IndexArray | int) -> None:
        closer = distance < self.distance[rows]
        moved = rows[closer]
        self.distance[moved] = distance[closer]
        self.mass[moved] = np.where(self._open[moved], distance[closer], 0.0)
        self.nearest[moved] = centre if isinstance(centre, int) else centre[closer]

    def _assign(self, centres: Float64Array) -> None:
        """Take many centres at once: the working dtype finds the nearest, float64 settles what is close."""
        if self._centres == 0:
            self.distance[:] = np.inf
        working = centres.astype(self.pool.dtype)
        half = block_norms(centres) / 2
        unit = relative_error(self.pool.dim, self.pool.dtype)
        for start in range(0, self.pool.n_rows, BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, self.pool.n_rows), dtype=np.intp)
            values = self.pool.take(rows, keep=False)
            nearness = values @ working.T  # x·c − |c|²/2, largest where |x − c|² is least
            nearness -= half.astype(self.pool.dtype)
            first = nearness.argmax(axis=1)
            top = nearness[np.arange(len(rows)), first]
            slack = (unit * (self._norms[rows] + 2 * half.max())).astype(self.pool.dtype)
            rivals = nearness >= (top - slack)[:, None]
            distance = _squared_distances(values, centres[first])
            for row in np.flatnonzero(np.count_nonzero(rivals, axis=1) > 1):
                among = np.flatnonzero(rivals[row])
                exact = _squared_distances(centres[among], values[row].astype(np.float64))
                first[row], distance[row] = among[exact.argmin()], exact.min()
            self._move(rows, distance, self._centres + first)
        self._centres += len(centres)


def _squared_distances(values: NDArray[np.floating], centres: Float64Array) -> Float64Array:
    """|x − c|² of every row in float64, from the differences: exactly 0 for a copy."""
    result = np.empty(len(values))
    for start in range(0, len(values), 256):
        part = values[start : start + 256].astype(np.float64)
        part -= centres if centres.ndim == 1 else centres[start : start + 256]
        result[start : start + 256] = block_norms(part)
    return result


def lcmd(
    X_pool: NDArray[np.floating],
    X_train: NDArray[np.floating],
    k: int,
    *,
    threshold: float | None = None,
    ids: Sequence[str] | None = None,
) -> Selection:
    """k rows of X_pool (rows, dim) by largest cluster maximum distance given X_train; see `LCMD`."""
    pool = one_row_each(X_pool, "X_pool")
    train = one_row_each(X_train, "X_train")
    return LCMD(threshold=threshold)(pool, train, k, rank=rank_of(ids, len(pool)))
