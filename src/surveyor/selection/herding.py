"""Kernel herding: picks whose kernel mean follows the pool's; a fair sample, evener than a random one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.spatial.distance import cdist, pdist

from surveyor.errors import SelectionError
from surveyor.linalg import row_blocks
from surveyor.selection.rule import Request, Rule, Score, Ties, tied
from surveyor.types import Features, Float64Array, IndexArray

ROUNDING = 1e-9
"""Of a score, a difference of means of kernels between 0 and 1 over coordinates that an eigensolver gave."""


@dataclass(frozen=True, eq=False)
class Herding(Rule):
    """Labelled structures and picks together look like the pool, dense regions more than sparse ones.

    Greedy descent of the maximum mean discrepancy between pool and labelled structures:

        score(x) = 1 + mean over pool structures y of k(x, y) − (sum over labelled s of k(x, s)) / (m + 1)
        k(x, y)  = exp(−|z(x) − z(y)|² / 2h²)

    z are the strongest principal components of the pool's rows (of their mean, where a structure owns
    several), h the median distance of two pool structures, m the number of labelled structures and picks.
    Scores lie between 0 and 2.

    | variable   | shape  | meaning                                                       |
    |------------|--------|---------------------------------------------------------------|
    | components | scalar | number of principal components                                |
    | sample     | scalar | pool structures drawn to stand for the pool; all where fewer  |

    Source: Chen, Welling & Smola, UAI 2010, arXiv:1203.3472; Gretton et al., JMLR 13 (2012) 723.
    """

    components: int = 20
    sample: int = 2000

    def score(self, request: Request) -> Score:
        if self.components <= 0 or self.sample <= 0:
            raise SelectionError(
                f"components = {self.components}, sample = {self.sample}", expected="at least one of each"
            )
        _ = request.view.norms  # refuses rows that are too large to square
        n = len(request.pool)
        drawn = np.sort(request.rng.choice(n, size=min(self.sample, n), replace=False))
        by_rank = np.argsort(request.rank)  # the same structures, whatever the order of the pool
        return Discrepancy(request.pool, request.train, by_rank[drawn], self.components)


class Discrepancy(Score):
    """The scores of `Herding`; a pick costs the kernel of the pool with it.

    | variable | shape     | meaning                                |
    |----------|-----------|----------------------------------------|
    | stand    | (sample,) | pool structures whose mean is followed |
    """

    def __init__(self, pool: Features, train: Features, stand: IndexArray, components: int) -> None:
        origin, axes = principal(averages(pool.take(stand)), components)
        self._pool = averages(pool, axes) - origin @ axes
        known = averages(train, axes) - origin @ axes
        followed = self._pool[stand]
        gaps = pdist(followed)
        # of structures that are all alike any width will do
        self._width = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 1.0
        self._wanted = np.empty(len(pool))
        for where, block in row_blocks(self._pool, size=4096):
            self._wanted[where] = self._kernel(block, followed).mean(axis=1)
        self._count = len(known)
        self._known = np.zeros(len(pool))
        for row in known:
            self._known += self._kernel(self._pool, row[None])[:, 0]

    def _kernel(self, left: NDArray[np.floating], right: Float64Array) -> Float64Array:
        return np.asarray(np.exp(-cdist(left, right, "sqeuclidean") / (2 * self._width**2)))

    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        among = np.flatnonzero(allowed)
        score = 1.0 + self._wanted[among] - self._known[among] / (self._count + 1)
        return tied(among, score, np.full(len(among), ROUNDING))

    def take(self, structure: int) -> None:
        self._known += self._kernel(self._pool, self._pool[[structure]])[:, 0]
        self._count += 1


def averages(features: Features, axes: Float64Array | None = None) -> Float64Array:
    """Mean of each structure's rows, along the axes (dim, count) where they are given."""
    width = features.dim if axes is None else axes.shape[1]
    total = np.zeros((len(features), width))
    for where, block in row_blocks(features.values):
        np.add.at(total, features.owner[where], block if axes is None else block @ axes)
    return np.asarray(total / np.bincount(features.owner, minlength=len(features))[:, None])


def principal(rows: Float64Array, count: int) -> tuple[Float64Array, Float64Array]:
    """Mean row (dim,), and the strongest directions about it (dim, ≤ count)."""
    origin = rows.mean(axis=0)
    centred, dim = rows - origin, rows.shape[1]
    _, axes = eigh(centred.T @ centred, subset_by_index=(max(0, dim - count), dim - 1))
    return origin, np.asarray(axes, dtype=np.float64)
