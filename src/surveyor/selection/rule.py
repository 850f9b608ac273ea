"""The shape that all rules share: one call, one set of checks; a rule is mostly its `_choose`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

import numpy as np

from surveyor.errors import SelectionError
from surveyor.selection.border import check_request, check_threshold
from surveyor.selection.purse import Purse
from surveyor.types import Features, FloatArray, IndexArray, Selection

Picks = TypeVar("Picks", bound=Selection, covariant=True)


@dataclass(frozen=True, eq=False)
class Request:
    """What a rule is asked for, checked.

    | variable | shape         | meaning                                                       |
    |----------|---------------|---------------------------------------------------------------|
    | pool     |               | rows of the unlabelled structures; there is at least one      |
    | train    |               | rows of the labelled structures, of the same width            |
    | k        | scalar        | structures to pick, > 0; may exceed the pool                  |
    | rng      |               | source of every random draw                                   |
    | rank     | (structures,) | of structures that tie, the lowest rank wins                  |
    """

    pool: Features
    train: Features
    k: int
    rng: np.random.Generator
    rank: IndexArray


class Rule(ABC, Generic[Picks]):
    """A rule that picks structures of a pool, given those already labelled; see the subclasses.

    Every rule is a frozen dataclass of its settings, with a `threshold` among them: it stops when the best
    score falls below that (None: it does not).
    """

    threshold: float | None

    def __call__(
        self,
        pool: Features,
        train: Features,
        k: int,
        *,
        rng: np.random.Generator | None = None,
        rank: IndexArray | None = None,
    ) -> Picks:
        """k structures, best first.

        Args:
            rng: source of random draws, for rules that make any; None starts from seed 0.
            rank: (structures,) who wins a tie; None: the lowest index.

        Raises:
            SelectionError: k ≤ 0, an empty pool, rows of two widths, or a setting that does not fit.
            FeatureError: a pool row is too large to square.
        """
        return self._choose(self._request(pool, train, k, rng, rank))

    @abstractmethod
    def _choose(self, request: Request) -> Picks:
        """The picks for a request."""

    def among(self, structures: IndexArray) -> Self:
        """The same rule for these structures of its pool: settings of one number a structure go along."""
        del structures
        return self

    def settled(self, request: Request) -> Self:
        """The same rule with everything fixed that it would draw from the request's pool."""
        del request
        return self

    def _request(
        self,
        pool: Features,
        train: Features,
        k: int,
        rng: np.random.Generator | None,
        rank: IndexArray | None,
    ) -> Request:
        check_request(pool, train, k)
        check_threshold(self.threshold)
        if rank is None:
            rank = np.arange(len(pool), dtype=np.intp)
        elif len(rank) != len(pool):
            raise SelectionError(f"{len(rank)} ranks for {len(pool)} structures", expected="one each")
        return Request(pool, train, int(k), rng or np.random.default_rng(0), rank)


@dataclass(frozen=True, eq=False, kw_only=True)
class PricedRule(Rule[Picks]):
    """A rule that weighs its score against what a label costs, where costs are given.

    | variable | shape                 | meaning                                            |
    |----------|-----------------------|----------------------------------------------------|
    | cost     | (structures,) or None | price of each label                                |
    | budget   | scalar or None        | total cost allowed; what no longer fits is skipped |
    """

    cost: FloatArray | None = None
    budget: float | None = None

    def among(self, structures: IndexArray) -> Self:
        return replace(self, cost=None if self.cost is None else np.asarray(self.cost)[structures])

    def _purse(self, request: Request) -> Purse:
        """A full purse for the request's pool; see `Purse.of` for what it refuses."""
        return Purse.of(self.cost, self.budget, len(request.pool))
