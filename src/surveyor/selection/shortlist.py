"""A rule that looks at the most uncertain structures of a pool only: one pass, whatever the rule costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from surveyor.errors import SelectionError
from surveyor.posterior import check_noise
from surveyor.selection.maxvariance import MaxVariance
from surveyor.selection.novelty import Novelty
from surveyor.selection.residual import Directions, VarianceBounds
from surveyor.selection.rounding import relative_error
from surveyor.selection.rule import Request, Rule, among
from surveyor.selection.topk import TopK
from surveyor.types import Features, IndexArray, Selection, Stopped

BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The `size` structures of largest residual variance given the labelled ones, then a rule among them.

        shortlist = the largest s²(x)                          every structure owns one row
        shortlist = the largest Σ log(1 + s²/λ) over its rows  structures own several rows

    The pool is read once; the rule sees `size` structures, in memory. For `max-variance` and `top-k` without
    costs the picks are those of the whole pool as long as their scores exceed every score that was left out,
    since scores only fall as picks are made: `certain` counts them. The other rules may lose; how much is
    measured in docs/choosing-rules.md. Targets that `target-variance` samples come from the whole pool.

    | symbol | variable | shape  | meaning                                            |
    |--------|----------|--------|----------------------------------------------------|
    |        | rule     |        | the rule that chooses                              |
    |        | size     | scalar | length of the shortlist; no shorter than the picks |
    | λ      | noise    | scalar | of the residual variance that makes the shortlist  |
    """

    rule: Rule
    size: int
    noise: float = 1e-4

    def __call__(
        self,
        pool: Features,
        train: Features,
        k: int,
        *,
        rng: np.random.Generator | None = None,
        rank: IndexArray | None = None,
    ) -> Selection:
        """k structures, best first; arguments and errors as those of every rule.

        Raises:
            SelectionError: the shortlist is shorter than k.
        """
        request = Request.of(pool, train, k, rng, rank)
        check_noise(self.noise)
        if self.size < k:
            raise SelectionError(
                f"a shortlist of {self.size} structures for {k} picks",
                expected="a shortlist that is longer than the picks, tenfold or more",
                todo="raise the size of the shortlist",
            )
        rule = self.rule.settled(request)
        if self.size >= len(pool):
            whole = rule(pool, train, k, rng=request.rng, rank=request.rank)
            return replace(whole, certain=len(whole))
        chosen, left_out, slack = self._shortlist(request)
        part = pool.take(chosen)
        chooser = among(rule, chosen, len(pool))
        found = chooser(part, train, k, rng=request.rng, rank=request.rank[chosen])
        certain = None
        if isinstance(rule, MaxVariance | TopK) and getattr(rule, "cost", None) is None:
            same_noise = rule.noise == self.noise
            certain = _certain(found, part, train, left_out + slack) if same_noise else None
        stopped = Stopped.FILLED if found.stopped == Stopped.EXHAUSTED else found.stopped
        return Selection(chosen[found.indices], found.scores, stopped, certain)

    def _shortlist(self, request: Request) -> tuple[IndexArray, float, float]:
        """The structures, an upper bound on every score left out, and what rounding may add to a score."""
        view = request.view
        score = VarianceBounds(view, Directions(request.train.values, self.noise, view.dtype))
        for start in range(0, view.n_structures, BLOCK):
            block = np.arange(start, min(start + BLOCK, view.n_structures), dtype=np.intp)
            score.tighten(block, -np.inf, keep=False)
        order = np.lexsort((request.rank, -score.bounds))
        unit = self.noise if score.gain else 1.0
        slack = 2 * relative_error(view.dim, np.float64) * float(view.norms.max()) / unit
        return np.sort(order[: self.size]), float(score.bounds[order[self.size]]), slack


def _certain(found: Selection, part: Features, train: Features, level: float) -> int:
    """First picks above a level that no structure outside reaches; a copy is picked for want of others."""
    novelty = Novelty(train.values)
    for number, (index, score) in enumerate(zip(found.indices, found.scores, strict=True)):
        rows = np.asarray(part.take([int(index)]).values, dtype=np.float64)
        if not score > level or rows not in novelty:
            return number
        novelty.add(rows)
    return len(found)
