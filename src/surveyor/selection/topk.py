"""The k largest residual variances, without conditioning: what redundancy costs is seen against this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surveyor.linalg import squared_norms
from surveyor.posterior import check_noise
from surveyor.selection.border import one_row_each, rank_of
from surveyor.selection.lazy import Limits, lazy_greedy
from surveyor.selection.novelty import Novelty
from surveyor.selection.pool import Pool, finite_norms
from surveyor.selection.residual import Directions, VarianceBounds
from surveyor.selection.rule import Request, Rule
from surveyor.types import Selection


@dataclass(frozen=True)
class TopK(Rule[Selection]):
    """The structures of largest residual variance given the labelled ones only.

        s²(x) = λ φ(x)ᵀ (ΦᵀΦ + λI)⁻¹ φ(x)

    Picks do not condition the posterior, so near-copies are picked together. Scores and their unit are
    those of `MaxVariance` at its first pick: s², or log det(I + S/λ) if structures own several rows.

    | symbol | variable  | shape          | meaning                                          |
    |--------|-----------|----------------|--------------------------------------------------|
    | λ      | noise     | scalar         | in units of |φ|²; rows have mean |φ|² = 1          |
    |        | threshold | scalar or None | stop when the next score falls below it          |

    Source: Holzmüller et al., JMLR 24 (2023) 164, arXiv:2203.09410 (MaxDiag).
    """

    noise: float = 1e-4
    threshold: float | None = None

    def _choose(self, request: Request) -> Selection:
        check_noise(self.noise)
        view = Pool(request.pool)
        norms = finite_norms(view, squared_norms(view.values))
        score = VarianceBounds(view, norms, Directions(request.train.values, self.noise, view.dtype))
        limits = Limits(request.k, self.threshold, conditioned=False)
        return lazy_greedy(score, Novelty(request.train.values), limits, request.rank)


def top_k(
    X_pool: NDArray[np.floating],
    X_train: NDArray[np.floating],
    k: int,
    noise: float = 1e-4,
    *,
    threshold: float | None = None,
    ids: Sequence[str] | None = None,
) -> Selection:
    """The k rows of X_pool (rows, dim) of largest residual variance given X_train; see `TopK`."""
    pool = one_row_each(X_pool, "X_pool")
    rule = TopK(noise=noise, threshold=threshold)
    return rule(pool, one_row_each(X_train, "X_train"), k, rank=rank_of(ids, len(pool)))
