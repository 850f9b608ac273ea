"""Target-variance (V-optimal) selection: the least mean residual variance where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from surveyor.errors import SelectionError
from surveyor.posterior import check_noise
from surveyor.selection.ahead import gains
from surveyor.selection.gains import Targets
from surveyor.selection.rule import PricedRule, Request, Score
from surveyor.types import Features


@dataclass(frozen=True, eq=False)
class TargetVariance(PricedRule):
    """Least residual variance where you will simulate, or on average over the pool.

    Greedy V-optimal design: each pick lowers the mean residual variance of the target rows the most.

        c(t, x) = λ φ(t)ᵀ (ΦᵀΦ + λI)⁻¹ φ(x)
        gain(x) = mean over t of c(t, x)² / (s²(x) + λ)                 every structure owns one row
        gain(x) = mean over t of c(t, x) (S(x) + λI)⁻¹ c(t, x)ᵀ         structures own several rows

    The gain is exactly what labelling x takes off the mean residual variance of the targets; scores are
    gains (unit of |φ|²), over the cost where there are costs. Unlike maximal variance it ignores structures
    far from any target. Gains may rise as picks are made, so that every pick scores the whole pool; where
    structures own one row each, one pass over the rows does so for many picks (`Ahead`).

    | symbol | variable | shape            | meaning                                              |
    |--------|----------|------------------|------------------------------------------------------|
    | λ      | noise    | scalar           | in units of |φ|²; rows have mean |φ|² = 1              |
    | t      | target   | Features or None | where accuracy is wanted; None: a sample of the pool |
    |        | sample   | scalar           | pool structures drawn as targets if target is None   |

    Source: Yu, Bi & Tresp, ICML 2006, doi:10.1145/1143844.1143980 (transductive experimental design).
    """

    noise: float = 1e-4
    target: Features | None = None
    sample: int = 500

    def settled(self, request: Request) -> TargetVariance:
        if self.target is not None:
            return self
        if self.sample <= 0:
            raise SelectionError(f"sample = {self.sample} target structures", expected="at least one")
        n = len(request.pool)
        drawn = np.sort(request.rng.choice(n, size=min(self.sample, n), replace=False))
        by_rank = np.argsort(request.rank)  # the same structures, whatever the order of the pool
        return replace(self, target=request.pool.take(by_rank[drawn]))

    def score(self, request: Request) -> Score:
        check_noise(self.noise)
        return gains(request, Targets(request.train, self.target_of(request), self.noise))

    def target_of(self, request: Request) -> Features:
        """The target structures, drawn from the pool where none are given.

        Raises:
            SelectionError: none, or of another width than the pool.
        """
        target, dim = self.settled(request).target, request.pool.dim
        if target is None or target.dim != dim or len(target) == 0:
            got = "no target" if target is None else f"{len(target)} target structures of width {target.dim}"
            raise SelectionError(
                got,
                expected=f"at least one target, of the pool's width {dim}",
                todo="make target features with the same feature map and settings",
            )
        return target
