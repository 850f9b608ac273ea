"""The rules written down plainly in float64: every pick scores the whole pool from the definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surveyor.types import Features

Score = Callable[[list[np.ndarray]], np.ndarray]


def structures(features: Features) -> list[np.ndarray]:
    values = np.asarray(features.values, dtype=np.float64)
    return [values[features.owner == s] for s in range(len(features))]


def novel(block: np.ndarray, known: np.ndarray) -> bool:
    copied = (block[:, None] == known).all(axis=2).any(axis=1)
    return bool((block.any(axis=1) & ~copied).any())


def greedy(
    pool: list[np.ndarray],
    train: list[np.ndarray],
    k: int,
    score: Score,
    tie: np.ndarray | float,
    *,
    conditioned: bool = True,
) -> tuple[list[int], list[float]]:
    """Take the best novel structure, the first of equals; copies when nothing novel is left."""
    labelled, picks, scores = list(train), [], []
    for _ in range(min(k, len(pool))):
        seen = labelled + [pool[s] for s in picks] if conditioned else labelled
        known = np.concatenate([np.zeros((0, pool[0].shape[1])), *seen])
        value = score(seen)
        left = [s for s in range(len(pool)) if s not in picks]
        among = np.array([s for s in left if novel(pool[s], known)] or left)
        error = np.broadcast_to(tie, value.shape)
        level = (value[among] - error[among]).max()
        best = int(among[value[among] + error[among] >= level][0])
        picks.append(best)
        scores.append(float(value[best]))
    return picks, scores


def covariance(labelled: list[np.ndarray], dim: int, noise: float) -> np.ndarray:
    """P = λ(ΦᵀΦ + λI)⁻¹."""
    rows = np.concatenate([np.zeros((0, dim)), *labelled])
    return noise * np.linalg.inv(rows.T @ rows + noise * np.eye(dim))


def variance_score(pool: list[np.ndarray], noise: float, cost: np.ndarray | None = None) -> Score:
    dim = pool[0].shape[1]
    single = all(len(block) == 1 for block in pool)

    def score(labelled: list[np.ndarray]) -> np.ndarray:
        P = covariance(labelled, dim, noise)
        if single and cost is None:
            return np.array([float(x[0] @ P @ x[0]) for x in pool])
        gain = [np.linalg.slogdet(np.eye(len(x)) + x @ P @ x.T / noise)[1] for x in pool]
        return np.array(gain) / (1.0 if cost is None else cost)

    return score


def distance_score(pool: list[np.ndarray], cost: np.ndarray | None = None) -> Score:
    def score(labelled: list[np.ndarray]) -> np.ndarray:
        centres = np.concatenate(labelled) if labelled else np.zeros((1, pool[0].shape[1]))
        value = [max(((row - centres) ** 2).sum(axis=1).min() for row in block) for block in pool]
        return np.array(value) / (1.0 if cost is None else cost)

    return score


def target_score(
    pool: list[np.ndarray], target: np.ndarray, noise: float, cost: np.ndarray | float = 1.0
) -> Score:
    """Mean target variance before minus after, each from its own inverse."""
    dim = pool[0].shape[1]

    def mean_variance(labelled: list[np.ndarray]) -> float:
        P = covariance(labelled, dim, noise)
        return float(np.mean([t @ P @ t for t in target]))

    def score(labelled: list[np.ndarray]) -> np.ndarray:
        before = mean_variance(labelled)
        return np.array([before - mean_variance([*labelled, block]) for block in pool]) / cost

    return score


def ties(pool: list[np.ndarray], unit: float = 1.0) -> np.ndarray:
    """Scores closer than this are equal: ten or so roundings of the largest term."""
    return 1e-14 * np.array([(block**2).sum() for block in pool]) / unit


def plain_lcmd(
    pool: np.ndarray, train: np.ndarray, k: int, cost: np.ndarray | None = None, budget: float = np.inf
) -> tuple[list[int], list[float]]:
    """Holzmüller et al., distances over costs: all anew at every pick; rows must be novel and distinct."""
    X, centres = np.asarray(pool, dtype=np.float64), [np.asarray(row, dtype=np.float64) for row in train]
    picks: list[int] = []
    scores: list[float] = []
    price = np.ones(len(X)) if cost is None else cost
    left = budget
    for _ in range(k):
        fits = np.array([price[i] <= left and i not in picks for i in range(len(X))])
        if not fits.any():
            break
        if not centres:
            distance = np.where(fits, (X**2).sum(axis=1) / price, 0.0)
            best = int(distance.argmax())
        else:
            squares = np.array([((X - c) ** 2).sum(axis=1) for c in centres])
            nearest, distance = squares.argmin(axis=0), np.where(fits, squares.min(axis=0) / price, 0.0)
            sizes = np.bincount(nearest, weights=distance, minlength=len(centres))
            best = int(np.where(nearest == sizes.argmax(), distance, -1.0).argmax())
        picks.append(best)
        scores.append(float(distance[best]))
        left -= price[best]
        centres.append(X[best])
    return picks, scores


def herding_score(pool: list[np.ndarray], components: int) -> Score:
    """Distances about the pool's strongest singular directions, every kernel of every pair anew."""
    means = np.array([block.mean(axis=0) for block in pool])
    _, _, directions = np.linalg.svd(means - means.mean(axis=0))

    def place(block: np.ndarray) -> np.ndarray:
        return directions[:components] @ (block.mean(axis=0) - means.mean(axis=0))

    pairs = [np.linalg.norm(place(x) - place(y)) for i, x in enumerate(pool) for y in pool[:i]]
    width = float(np.median([gap for gap in pairs if gap > 0]))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(-((place(x) - place(y)) ** 2).sum() / (2 * width**2)))

    def score(labelled: list[np.ndarray]) -> np.ndarray:
        wanted = np.array([np.mean([kernel(x, y) for y in pool]) for x in pool])
        known = np.array([sum(kernel(x, s) for s in labelled) for x in pool])
        return 1 + wanted - known / (len(labelled) + 1)

    return score


def misfit_score(
    pool: list[np.ndarray], target: np.ndarray, noise: float, misfit: float, power: float
) -> Score:
    """Mean target variance before minus after, every label weighed by one over its own noise."""
    mean = np.concatenate(pool).mean(axis=0)

    def square(block: np.ndarray) -> float:
        return float(np.mean([(row - mean) @ (row - mean) for row in block]))

    level = float(np.mean([square(block) for block in pool]))

    def variance(labelled: list[np.ndarray]) -> float:
        information = np.eye(len(mean))
        for block in labelled:
            own = noise + misfit * level * (square(block) / level) ** power
            information += block.T @ block / own
        covariance = np.linalg.inv(information)
        return float(np.mean([t @ covariance @ t for t in target]))

    def score(labelled: list[np.ndarray]) -> np.ndarray:
        before = variance(labelled)
        return np.array([before - variance([*labelled, block]) for block in pool])

    return score
