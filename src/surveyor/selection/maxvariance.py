"""Greedy maximal residual variance (MaxDet): every pick conditions the posterior before the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surveyor.linalg import squared_norms
from surveyor.posterior import check_noise
from surveyor.selection.border import one_row_each, per_row, rank_of
from surveyor.selection.lazy import Limits, lazy_greedy
from surveyor.selection.novelty import Novelty
from surveyor.selection.pool import Pool, finite_norms
from surveyor.selection.residual import Directions, VarianceBounds
from surveyor.selection.rule import PricedRule, Request
from surveyor.types import Features, Float64Array, FloatArray, IndexArray, Selection


@dataclass(frozen=True, eq=False)
class BoundedSelection(Selection):
    """A selection with an upper bound (rows,) on the residual variance of every pool row after its picks.

    While the feature map, the noise and the labelled rows stay or grow, a row's residual variance never
    rises: give the bounds of the rows that remain to the next round as `upper_bounds`. They count every
    pick as labelled; if a label failed, start without bounds.
    """

    upper_bounds: Float64Array


@dataclass(frozen=True, eq=False)
class MaxVariance(PricedRule[BoundedSelection]):
    """Greedy maximal residual variance: the rule of choice where the potential must learn everything.

        s²(x) = λ φ(x)ᵀ (ΦᵀΦ + λI)⁻¹ φ(x)
        next  = argmax s²(x)                          every structure owns one row
        next  = argmax log det(I + S(x)/λ)            structures own several rows; S: residual covariance
        next  = argmax log det(I + S(x)/λ) / cost(x)  with costs

    Both are the greedy maximum of log det(I + ΦΦᵀ/λ) over the labelled rows: for one row,
    log det(I + S/λ) = log(1 + s²/λ) orders as s² does. The determinant, not the sum of variances, is what
    several rows of one structure add up to: force rows that say the same count once. Scores are s² (unit
    of |φ|²) if every structure owns one row and there is no cost; nats, or nats per cost, otherwise; so is
    the threshold.

    | symbol | variable  | shape                 | meaning                                         |
    |--------|-----------|-----------------------|-------------------------------------------------|
    | λ      | noise     | scalar                | in units of |φ|²; rows have mean |φ|² = 1         |
    |        | threshold | scalar or None        | stop when the best score falls below it         |
    |        | cost      | (structures,) or None | price of each label                             |
    |        | budget    | scalar or None        | total cost allowed; what no longer fits is skipped |

    Source: Holzmüller et al., JMLR 24 (2023) 164, arXiv:2203.09410 (MaxDet); Leskovec et
    al., KDD 2007, doi:10.1145/1281192.1281239 (gain per cost).
    """

    noise: float = 1e-4
    threshold: float | None = None

    def __call__(
        self,
        pool: Features,
        train: Features,
        k: int,
        *,
        rng: np.random.Generator | None = None,
        rank: IndexArray | None = None,
        upper_bounds: FloatArray | None = None,
    ) -> BoundedSelection:
        """As every rule; known `upper_bounds` (rows,) on s² spare work and change no pick."""
        return self._choose(self._request(pool, train, k, rng, rank), upper_bounds)

    def _choose(self, request: Request, upper_bounds: FloatArray | None = None) -> BoundedSelection:
        check_noise(self.noise)
        purse = self._purse(request)
        view = Pool(request.pool)
        known = None if upper_bounds is None else per_row(upper_bounds, view.n_rows, "upper_bounds")
        score = VarianceBounds(
            view,
            finite_norms(view, squared_norms(view.values)),
            Directions(request.train.values, self.noise, view.dtype),
            upper_bounds=known,
            weight=purse.weight,
            as_gain=purse.price is not None,
        )
        limits = Limits(request.k, self.threshold, purse)
        picks = lazy_greedy(score, Novelty(request.train.values), limits, request.rank)
        return BoundedSelection(picks.indices, picks.scores, picks.stopped, score.row_bound)


def max_variance(
    X_pool: NDArray[np.floating],
    X_train: NDArray[np.floating],
    k: int,
    noise: float = 1e-4,
    *,
    threshold: float | None = None,
    cost: FloatArray | None = None,
    budget: float | None = None,
    upper_bounds: FloatArray | None = None,
    ids: Sequence[str] | None = None,
) -> BoundedSelection:
    """k rows of X_pool (rows, dim) by greedy maximal residual variance given X_train; see `MaxVariance`.

    X_pool may be a numpy array, an np.memmap or a zarr array. Equal scores go to the lowest of `ids`
    (strings, one a row), without them to the lowest index.
    """
    pool = one_row_each(X_pool, "X_pool")
    rule = MaxVariance(noise=noise, threshold=threshold, cost=cost, budget=budget)
    train = one_row_each(X_train, "X_train")
    return rule(pool, train, k, upper_bounds=upper_bounds, rank=rank_of(ids, len(pool)))
