"""Kernel herding: picks whose kernel mean follows the pool's; a fair sample, evener than a random one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.spatial.distance import cdist, pdist

from surveyor.errors import SelectionError
from surveyor.linalg import row_blocks
from surveyor.selection.rule import Request, Rule, Score, Ties, tied
from surveyor.types import Features, Float64Array

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
    conditioned: ClassVar[bool] = True

    def score(self, request: Request) -> Score:
        if self.components <= 0 or self.sample <= 0:
            raise SelectionError(
                f"components = {self.components}, sample = {self.sample}", expected="at least one of each"
            )
        n = len(request.pool)
        drawn = np.sort(request.rng.choice(n, size=min(self.sample, n), replace=False))
        by_rank = np.argsort(request.rank)  # the same structures, whatever the order of the pool
        return Discrepancy(request.pool, request.train, by_rank[drawn], self.components)


class Discrepancy(Score):
    """The scores of `Herding`; a pick costs the kernel of the pool with it.

    | variable | shape        | meaning                                     |
    |----------|--------------|---------------------------------------------|
    | stand    | (sample,)    | pool structures whose mean is followed      |
    """

    def __init__(self, pool: Features, train: Features, stand: NDArray[np.intp], components: int) -> None:
        means = mean_rows(pool)
        origin, axes = principal(means[stand], components)
        self._pool = (means - origin) @ axes
        known = (mean_rows(train) - origin) @ axes
        spread = pdist(self._pool[stand])
        # all alike: any width will do
        self._width = float(np.median(spread[spread > 0])) if (spread > 0).any() else 1.0
        self._wanted = np.concatenate(
            [self._kernel(self._pool[part], self._pool[stand]).mean(axis=1) for part in _parts(len(means))]
        )
        self._count = len(known)
        self._known = np.zeros(len(means))
        for row in known:
            self._known += self._kernel(self._pool, row[None])[:, 0]

    def _kernel(self, left: Float64Array, right: Float64Array) -> Float64Array:
        return np.asarray(np.exp(-cdist(left, right, "sqeuclidean") / (2 * self._width**2)))

    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        among = np.flatnonzero(allowed)
        score = 1.0 + self._wanted[among] - self._known[among] / (self._count + 1)
        return tied(among, score, np.full(len(among), ROUNDING))

    def take(self, structure: int) -> None:
        self._known += self._kernel(self._pool, self._pool[[structure]])[:, 0]
        self._count += 1


def mean_rows(features: Features) -> Float64Array:
    """Mean of each structure's rows (structures, dim)."""
    total = np.zeros((len(features), features.dim))
    for where, block in row_blocks(features.values):
        np.add.at(total, features.owner[where], block)
    counts = np.bincount(features.owner, minlength=len(features))
    return np.asarray(total / counts[:, None])


def principal(rows: Float64Array, count: int) -> tuple[Float64Array, Float64Array]:
    """Mean row (dim,), and the strongest directions about it (dim, ≤ count)."""
    origin = rows.mean(axis=0)
    centred = rows - origin
    _, vectors = eigh(centred.T @ centred, subset_by_index=(max(0, rows.shape[1] - count), rows.shape[1] - 1))
    return origin, np.asarray(vectors, dtype=np.float64)


def _parts(count: int, size: int = 4096) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]
