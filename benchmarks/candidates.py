"""Rules that were tried against random picks and are not part of the package; `rules.yaml` names them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from surveyor.selection import Request, Rule, Score, TargetVariance
from surveyor.selection.herding import Herding, mean_rows, principal
from surveyor.selection.rule import Ties
from surveyor.types import Features, Float64Array

NOISE = 1e-4


def scaled(features: Features, factor: Float64Array) -> Features:
    """Every structure's rows times a number of its own."""
    values = np.asarray(features.values, dtype=np.float64) * factor[features.owner, None]
    return Features(values, features.owner, len(features))


def of_target(request: Request, pool: Features, train: Features, target: Features | None = None) -> Score:
    """V-optimality on rows that were made from the request's."""
    changed = replace(request, pool=pool, train=train)
    return TargetVariance(noise=NOISE, target=target).score(changed)


@dataclass(frozen=True, eq=False)
class Misfit(Rule):
    """V-optimality where labels of structures far from the pool's mean are noisier.

        noise(x) = λ + β v (|φ(x) − φ̄|² / v)^p,    v = mean |φ − φ̄|²

    Rows over √(noise / λ) as labelled rows, as they are as targets.
    """

    beta: float = 0.1
    power: float = 1.0

    def score(self, request: Request) -> Score:
        pool, train = request.pool, request.train
        mean = mean_rows(pool).mean(axis=0)

        def distance(features: Features) -> Float64Array:
            return np.asarray(((mean_rows(features) - mean) ** 2).sum(axis=1))

        level = distance(pool).mean()

        def factor(features: Features) -> Float64Array:
            noise = NOISE + self.beta * level * (distance(features) / level) ** self.power
            return np.asarray(np.sqrt(NOISE / noise))

        target = TargetVariance(noise=NOISE).settled(request).target
        return of_target(request, scaled(pool, factor(pool)), scaled(train, factor(train)), target)


@dataclass(frozen=True, eq=False)
class Strong(Misfit):
    """The same with all of the spread as noise."""

    beta: float = 1.0


@dataclass(frozen=True, eq=False)
class Square(Misfit):
    """Noise growing with the square of the distance's square."""

    power: float = 2.0


@dataclass(frozen=True, eq=False)
class Cosine(Rule):
    """V-optimality on rows about the pool's mean, each of length one."""

    def score(self, request: Request) -> Score:
        mean = mean_rows(request.pool).mean(axis=0)

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
        pool, train = mean_rows(request.pool), mean_rows(request.train)
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


class ByTurns(Score):
    """Two scores; of every ten picks so many go to the first, and both count all picks."""

    def __init__(self, first: Score, second: Score, share: float) -> None:
        self._scores, self._share, self._picked = (first, second), share, 0

    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        turn = np.floor((self._picked + 1) * self._share) > np.floor(self._picked * self._share)
        return self._scores[0 if turn else 1].best(allowed)

    def take(self, structure: int) -> None:
        self._picked += 1
        for score in self._scores:
            score.take(structure)


@dataclass(frozen=True, eq=False)
class Mixture(Rule):
    """Default and herding by turns."""

    share: float = 0.5

    def score(self, request: Request) -> Score:
        default, herding = TargetVariance(noise=NOISE).score(request), Herding().score(request)
        return ByTurns(default, herding, self.share)


def variety(pool: Features) -> float:
    """1 − |φ̄|² / mean |φ|²: 0 where all structures are alike."""
    rows = mean_rows(pool)
    mean = rows.mean(axis=0)
    return float(1 - mean @ mean / (rows**2).sum(axis=1).mean())
