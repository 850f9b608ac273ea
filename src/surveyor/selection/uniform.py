"""Uniformly random picks: the baseline that every other rule must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from surveyor.selection.rule import Fixed, Request, Rule, Score


@dataclass(frozen=True, eq=False)
class Random(Rule):
    """Uniform, without replacement; the baseline, and the fair sample for validation.

    Copies of labelled structures come last. The picks for k are the first k of the picks for k + 1 when the
    generator starts from the same seed. Scores are all 1: no structure is preferred.
    """

    conditioned: ClassVar[bool] = False

    def score(self, request: Request) -> Score:
        n = len(request.pool)
        drawn = np.empty(n, dtype=np.intp)
        drawn[np.argsort(request.rank)[request.rng.permutation(n)]] = np.arange(n)
        return Fixed(np.ones(n), drawn)
