"""Uniformly random picks: the baseline that every other rule must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surveyor.selection.border import one_row_each, rank_of
from surveyor.selection.novelty import Novelty, novel_first
from surveyor.selection.pool import Pool
from surveyor.selection.rule import Request, Rule
from surveyor.types import Selection, Stopped


@dataclass(frozen=True)
class Random(Rule[Selection]):
    """Uniform picks without replacement; copies of labelled structures come last.

    The picks for k are the first k of the picks for k + 1 when the generator starts from the same seed.
    Scores are all 1: no structure is preferred, and there is no threshold.
    """

    @property
    def threshold(self) -> None:  # type: ignore[override]
        return None

    def _choose(self, request: Request) -> Selection:
        order = np.argsort(request.rank)[request.rng.permutation(len(request.pool))]
        novelty = Novelty(request.train.values)
        picks = novel_first(Pool(request.pool), order, novelty, request.k, conditioned=False)
        stopped = Stopped.EXHAUSTED if len(picks) == len(request.pool) else Stopped.FILLED
        return Selection(indices=picks, scores=np.ones(len(picks)), stopped=stopped)


def random(
    X_pool: NDArray[np.floating],
    X_train: NDArray[np.floating],
    k: int,
    *,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> Selection:
    """k uniform picks of the rows of X_pool (rows, dim); see `Random`."""
    pool, train = one_row_each(X_pool, "X_pool"), one_row_each(X_train, "X_train")
    return Random()(pool, train, k, rng=np.random.default_rng(seed), rank=rank_of(ids, len(pool)))
