"""What all rules share: checks, and the loop with copies, budget, ties, stop reasons; a rule is its score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from surveyor.selection.budget import Budget
from surveyor.selection.novelty import Novelty
from surveyor.selection.pool import Pool
from surveyor.selection.validation import check_request, check_threshold, per_row, ranks
from surveyor.types import Features, Float64Array, FloatArray, IndexArray, Selection, Stopped

Ties = tuple[IndexArray, Float64Array]
"""Structures of the highest score that nothing tells apart, and the score of each."""

PER_STRUCTURE = ("cost", "disagreement")
"""Settings that hold one number a pool structure."""

Settings = TypeVar("Settings", bound=Any)


@dataclass(frozen=True, eq=False)
class Request:
    """What a rule is asked for, checked.

    | variable | shape                 | meaning                                                       |
    |----------|-----------------------|---------------------------------------------------------------|
    | pool     |                       | rows of the unlabelled structures; there is at least one      |
    | train    |                       | rows of the labelled structures, of the same width            |
    | k        | scalar                | structures to pick, > 0; may exceed the pool                  |
    | rng      |                       | source of every random draw                                   |
    | rank     | (structures,)         | of structures that tie, the lowest rank wins                  |
    | weight   | (structures,) or None | factor on every score, 1/cost; None: 1                        |
    """

    pool: Features
    train: Features
    k: int
    rng: np.random.Generator
    rank: IndexArray
    weight: Float64Array | None = None

    @classmethod
    def of(
        cls,
        pool: Features,
        train: Features,
        k: int,
        rng: np.random.Generator | None = None,
        rank: IndexArray | None = None,
    ) -> Self:
        """A request with its defaults filled in.

        Raises:
            SelectionError: k ≤ 0, an empty pool, rows of two widths, or not one rank per structure.
        """
        check_request(pool, train, k)
        return cls(pool, train, int(k), rng or np.random.default_rng(0), ranks(rank, len(pool)))

    @cached_property
    def view(self) -> Pool:
        """The pool's rows by number."""
        return Pool(self.pool)


class Score(ABC):
    """How much each structure of a pool is worth, given the labelled ones and the picks so far."""

    @abstractmethod
    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        """The best of the structures that are allowed (structures,), of which there is one at least."""

    def take(self, structure: int) -> None:
        """Count the structure as labelled; a score that no pick changes leaves this out."""
        del structure


class Fixed(Score):
    """A score that no pick changes: the structures in one order.

    | variable | shape         | meaning            |
    |----------|---------------|--------------------|
    | value    | (structures,) | the larger, the better |
    | rank     | (structures,) | orders equal values |
    """

    def __init__(self, value: Float64Array, rank: IndexArray) -> None:
        self._value = value
        self._order = np.lexsort((rank, -value))

    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        first = self._order[np.argmax(allowed[self._order])]
        return np.array([first]), self._value[[first]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Rule(ABC):
    """A rule that picks structures of a pool, given those already labelled.

    A subclass is a frozen dataclass of its settings that gives the score. Settings named as in
    `registry.Given` are filled in from there; the first line of its docstring is what the help says.

    | variable    | shape          | meaning                                                 |
    |-------------|----------------|---------------------------------------------------------|
    | conditioned | class variable | a pick counts as labelled before the next is made       |
    | threshold   | scalar or None | stop when the best score falls below it                 |
    """

    conditioned: ClassVar[bool] = True
    threshold: float | None = None

    @abstractmethod
    def score(self, request: Request) -> Score:
        """The score of every structure of the request's pool."""

    def settled(self, request: Request) -> Self:
        """The same rule with everything fixed that it would draw from the request's pool."""
        del request
        return self

    def prices(self, n_structures: int) -> Budget:
        """What labels cost, and may cost together; without prices unless the rule weighs them."""
        del n_structures
        return Budget()

    def __call__(
        self,
        pool: Features,
        train: Features,
        k: int,
        *,
        rng: np.random.Generator | None = None,
        rank: IndexArray | None = None,
    ) -> Selection:
        """k structures, best first.

        Args:
            rng: source of random draws, for rules that make any; None starts from seed 0.
            rank: (structures,) who wins a tie; None: the lowest index.

        Raises:
            SelectionError: k ≤ 0, an empty pool, rows of two widths, or a setting that does not fit.
            FeatureError: a pool row is too large to square.
        """
        request = Request.of(pool, train, k, rng, rank)
        check_threshold(self.threshold)
        budget = self.prices(len(pool))
        request = replace(request, weight=budget.weight)
        return greedy(
            self.score(request), request, budget, threshold=self.threshold, conditioned=self.conditioned
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class PricedRule(Rule):
    """A rule that weighs its score against what a label costs, where costs are given.

    | variable | shape                 | meaning                                            |
    |----------|-----------------------|----------------------------------------------------|
    | cost     | (structures,) or None | price of each label                                |
    | budget   | scalar or None        | total cost allowed; what no longer fits is skipped |
    """

    cost: FloatArray | None = None
    budget: float | None = None

    def prices(self, n_structures: int) -> Budget:
        return Budget.of(self.cost, self.budget, n_structures)


def greedy(
    score: Score,
    request: Request,
    budget: Budget,
    *,
    threshold: float | None = None,
    conditioned: bool = True,
) -> Selection:
    """Take the best structure, count it as labelled, and so on.

    Copies of labelled structures, and of picks where these count as labelled, wait until nothing novel is
    left. Of structures that tie, the one of lowest rank is taken.
    """
    view, novelty = request.view, Novelty(request.train.values)
    left = np.ones(view.n_structures, dtype=bool)
    novel = left.copy()
    picks: list[int] = []
    scores: list[float] = []
    stopped = Stopped.FILLED
    while len(picks) < request.k:
        left[budget.too_dear()] = False
        if not left.any():
            stopped = Stopped.BUDGET_SPENT
            break
        allowed = left & novel
        if not allowed.any():
            allowed = left
        ties, values = score.best(allowed)
        first = int(np.argmin(request.rank[ties]))
        winner, value = int(ties[first]), float(values[first])
        rows = view.structure(winner)
        if novel[winner] and rows not in novelty:
            novel[novelty.copies(view, np.flatnonzero(allowed), winner)] = False
            continue
        if threshold is not None and value < threshold:
            stopped = Stopped.BELOW_THRESHOLD
            break
        picks.append(winner)
        scores.append(value)
        left[winner] = False
        budget.pay(winner)
        if conditioned and len(picks) < request.k:
            novelty.add(rows)
            score.take(winner)
    if len(picks) == view.n_structures:
        stopped = Stopped.EXHAUSTED
    return Selection(np.array(picks, dtype=np.intp), np.array(scores, dtype=np.float64), stopped)


def among(settings: Settings, structures: IndexArray, n_pool: int) -> Settings:
    """The same settings for these structures of a pool of n: what holds one number per structure goes along.

    Raises:
        SelectionError: not one number for each structure of the pool.
    """
    held = {field.name: getattr(settings, field.name) for field in fields(settings)}
    numbers = {name: held[name] for name in PER_STRUCTURE if held.get(name) is not None}
    return replace(settings, **{key: per_row(each, n_pool, key)[structures] for key, each in numbers.items()})


def tied(structures: IndexArray, value: Float64Array, error: Float64Array) -> Ties:
    """Those of highest value that rounding, of at most `error` in each, cannot tell apart."""
    ties = value + error >= (value - error).max()
    return structures[ties], value[ties]
