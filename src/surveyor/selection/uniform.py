"""Uniformly random picks: the baseline that every other rule must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surveyor.selection.border import check_request, one_row_each
from surveyor.selection.novelty import Novelty
from surveyor.types import Features, Selection, Stopped


@dataclass(frozen=True)
class Random:
    """Uniform picks without replacement; copies of labelled structures come last.

    The picks for k are the first k of the picks for k + 1 when the generator starts from the same seed.
    Scores are all 1: no structure is preferred.
    """

    def __call__(self, pool: Features, train: Features, k: int, *, rng: np.random.Generator) -> Selection:
        """k structures in random order.

        Raises:
            SelectionError: k ≤ 0, an empty pool, or rows of two widths.
        """
        check_request(pool, train, k)
        novelty = Novelty(train.values)
        first: list[int] = []
        last: list[int] = []
        starts = np.searchsorted(pool.owner, np.arange(len(pool) + 1))
        for index in rng.permutation(len(pool)).tolist():
            rows = np.asarray(pool.values[starts[index] : starts[index + 1]])
            (first if rows in novelty else last).append(index)
            if len(first) == k:
                break
        picks = np.array((first + last)[:k], dtype=np.intp)
        stopped = Stopped.EXHAUSTED if len(picks) == len(pool) else Stopped.FILLED
        return Selection(indices=picks, scores=np.ones(len(picks)), stopped=stopped)


def random(
    X_pool: NDArray[np.floating], X_train: NDArray[np.floating], k: int, *, seed: int = 0
) -> Selection:
    """k uniform picks of the rows of X_pool (rows, dim); see `Random`."""
    return Random()(
        one_row_each(X_pool, "X_pool"), one_row_each(X_train, "X_train"), k, rng=np.random.default_rng(seed)
    )
