"""Rules that were tried against random picks and are not part of the package; `rules.yaml` names them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist, pdist

from surveyor.selection import Request, Rule, Score, TargetVariance
from surveyor.selection.herding import averages, principal
from surveyor.types import Features, Float64Array

NOISE = 1e-4


def of_target(request: Request, pool: Features, train: Features, target: Features | None = None) -> Score:
    """V-optimality on rows that were made from the request's."""
    changed = replace(request, pool=pool, train=train)
    return TargetVariance(noise=NOISE, target=target).score(changed)


@dataclass(frozen=True, eq=False)
class Cosine(Rule):
    """V-optimality on rows about the pool's mean, each of length one."""

    def score(self, request: Request) -> Score:
        mean = averages(request.pool).mean(axis=0)

        def turned(features: Features) -> Features:
            rows = np.asarray(features.values, dtype=np.float64) - mean
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            return Features(rows / np.maximum(lengths, 1e-300), features.owner, len(features))

        return of_target(request, turned(request.pool), turned(request.train))


@dataclass(frozen=True, eq=False)
class Local(Rule):
    """V-optimality for a linear model plus a smooth misfit that only near labels tell of.

        k(x, y) = (1 − α) φ(x)·φ(y) / v + α exp(−|z(x) − z(y)|² / 2h²)

    φ about the pool's mean, v their mean square; z, h as in herding. The second term enters as columns
    (Nyström) of `landmarks` pool structures.
    """

    alpha: float = 0.3
    damping: float = 1e-2
    width: float = 1.0
    components: int = 20
    landmarks: int = 400

    def score(self, request: Request) -> Score:
        pool, train = averages(request.pool), averages(request.train)
        origin, axes = principal(pool, self.components)
        level = ((pool - origin) ** 2).sum(axis=1).mean()
        drawn = request.rng.choice(len(pool), size=min(self.landmarks, len(pool)), replace=False)
        marks = ((pool - origin) @ axes)[np.argsort(request.rank)[np.sort(drawn)]]
        width = self.width * float(np.median(pdist(marks)))

        def kernel(left: Float64Array) -> Float64Array:
            return np.asarray(np.exp(-cdist(left, marks, "sqeuclidean") / (2 * width**2)))

        square, vectors = np.linalg.eigh(kernel(marks))
        kept = square > 1e-8 * square.max()
        half = vectors[:, kept] / np.sqrt(square[kept])

        def rows(means: Float64Array) -> Features:
            linear = (means - origin) * np.sqrt((1 - self.alpha) / level)
            near = kernel((means - origin) @ axes) @ half * np.sqrt(self.alpha)
            return Features.one_row_each(np.concatenate([linear, near], axis=1))

        changed = replace(request, pool=rows(pool), train=rows(train))
        return TargetVariance(noise=self.damping).score(changed)


@dataclass(frozen=True, eq=False)
class Smooth(Local):
    """The smooth term alone."""

    alpha: float = 1.0
