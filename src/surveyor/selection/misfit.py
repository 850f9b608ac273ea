"""Target-variance where the model is known to be wrong: labels far from the pool's mean count as noisier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surveyor.errors import SelectionError
from surveyor.linalg import row_blocks
from surveyor.posterior import check_noise
from surveyor.selection.ahead import gains
from surveyor.selection.gains import Targets
from surveyor.selection.rule import Request, Score
from surveyor.selection.targets import TargetVariance
from surveyor.types import Features, Float64Array

ROUNDING = 1e-12
"""A spread below this share of the rows' mean squared norm is none."""


@dataclass(frozen=True, eq=False)
class MisfitVariance(TargetVariance):
    """Target-variance that trusts extreme structures less: a linear model fits them worst.

    Greedy V-optimal design with the noise of each structure of its own:

        λ(x)    = λ + β v (d²(x) / v)^p,      d²(x) = |φ(x) − φ̄|²,  v = mean of d² over the pool
        gain(x) = mean over t of c(t, x)² / (s²(x) + λ(x))

    What a linear model lacks grows with the distance from where it was made: its square (p = 1) or, as the
    first neglected order does, its fourth power (p = 2). d² is the mean over a structure's rows.

    | symbol | variable | shape  | meaning                                                   |
    |--------|----------|--------|-----------------------------------------------------------|
    | β      | misfit   | scalar | share of the spread that is misfit, ≥ 0; 0: target-variance |
    | p      | power    | scalar | ≥ 0                                                       |

    Others are settings of `TargetVariance`.
    """

    misfit: float = 0.1
    power: float = 2.0

    def score(self, request: Request) -> Score:
        check_noise(self.noise)
        if not (self.misfit >= 0 and self.power >= 0 and np.isfinite([self.misfit, self.power]).all()):
            raise SelectionError(
                f"misfit = {self.misfit}, power = {self.power}", expected="finite, from 0 on"
            )
        target = self.target_of(request)
        mean = centre(request.pool)
        spread = distances(request.pool, mean)
        level = float(spread.mean())
        alike = level <= ROUNDING * float(request.view.norms.mean())

        def multiple(squares: Float64Array) -> Float64Array:
            if alike:
                return np.ones(len(squares))
            return 1.0 + self.misfit * level / self.noise * (squares / level) ** self.power

        root = np.sqrt(multiple(distances(request.train, mean)))
        train = Features(
            np.asarray(request.train.values, dtype=np.float64) / root[request.train.owner, None],
            request.train.owner,
            len(request.train),
        )
        return gains(request, Targets(train, target, self.noise), multiple(spread))


def centre(features: Features) -> Float64Array:
    """Mean row (dim,)."""
    total = np.zeros(features.dim)
    for _, block in row_blocks(features.values):
        total += block.sum(axis=0)
    return np.asarray(total / features.values.shape[0])


def distances(features: Features, centre: Float64Array) -> Float64Array:
    """Mean squared distance of each structure's rows from the centre (structures,)."""
    total = np.zeros(len(features))
    for where, block in row_blocks(features.values):
        np.add.at(total, features.owner[where], ((block - centre) ** 2).sum(axis=1))
    return np.asarray(total / np.bincount(features.owner, minlength=len(features)))
