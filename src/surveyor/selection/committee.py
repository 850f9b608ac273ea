"""Query by committee: the structures on which several potentials disagree most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from surveyor.errors import SelectionError
from surveyor.selection.border import one_row_each, per_row, rank_of
from surveyor.selection.novelty import Novelty, novel_first
from surveyor.selection.pool import Pool
from surveyor.selection.rule import Request, Rule
from surveyor.types import FloatArray, IndexArray, Selection, Stopped


@dataclass(frozen=True, eq=False)
class Committee(Rule[Selection]):
    """The structures of largest disagreement among K potentials, largest first.

    Scores are the disagreements, in their unit (eV/atom or eV/Å; see `surveyor.disagreement`). A pick does
    not change the disagreement on others, so that near-copies are picked together; exact copies of labelled
    structures and of earlier picks come last.

    | variable     | shape          | meaning                                          |
    |--------------|----------------|--------------------------------------------------|
    | disagreement | (structures,)  | one number a pool structure, finite, ≥ 0         |
    | threshold    | scalar or None | stop when the next disagreement falls below it   |

    Source: Seung, Opper & Sompolinsky, COLT 1992, doi:10.1145/130385.130417 (query by committee).
    """

    disagreement: FloatArray
    threshold: float | None = None

    def among(self, structures: IndexArray) -> Committee:
        return replace(self, disagreement=np.asarray(self.disagreement)[structures])

    def _choose(self, request: Request) -> Selection:
        values = per_row(self.disagreement, len(request.pool), "disagreement")
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise SelectionError(
                "a disagreement that is negative or not finite",
                expected="one finite number ≥ 0 a pool structure",
                todo="look at the predictions of the committee for that structure",
            )
        order = np.lexsort((request.rank, -values))
        novelty = Novelty(request.train.values)
        picks = novel_first(Pool(request.pool), order, novelty, request.k, conditioned=True)
        stopped = Stopped.EXHAUSTED if len(picks) == len(request.pool) else Stopped.FILLED
        if self.threshold is not None and (below := values[picks] < self.threshold).any():
            picks, stopped = picks[: int(below.argmax())], Stopped.BELOW_THRESHOLD
        return Selection(picks, values[picks], stopped)


def committee(
    X_pool: NDArray[np.floating],
    X_train: NDArray[np.floating],
    disagreement: FloatArray,
    k: int,
    *,
    threshold: float | None = None,
    ids: Sequence[str] | None = None,
) -> Selection:
    """The k rows of X_pool (rows, dim) of largest disagreement (rows,); see `Committee`.

    The rows serve to tell copies of labelled structures and of picks; they do not enter the score.
    """
    pool = one_row_each(X_pool, "X_pool")
    rule = Committee(disagreement, threshold)
    return rule(pool, one_row_each(X_train, "X_train"), k, rank=rank_of(ids, len(pool)))
