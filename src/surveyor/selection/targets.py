"""Target-variance (V-optimal) selection: the least mean residual variance where it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from surveyor.errors import SelectionError
from surveyor.linalg import row_blocks, squared_norms
from surveyor.posterior import check_noise
from surveyor.selection.border import one_row_each, rank_of
from surveyor.selection.novelty import Novelty
from surveyor.selection.pool import Pool, finite_norms
from surveyor.selection.residual import Directions
from surveyor.selection.rounding import relative_error
from surveyor.selection.rule import PricedRule, Request
from surveyor.types import Features, Float64Array, FloatArray, Selection, Stopped


@dataclass(frozen=True, eq=False)
class TargetVariance(PricedRule[Selection]):
    """Greedy V-optimal design: each pick lowers the mean residual variance of the target rows the most.

        c(t, x) = λ φ(t)ᵀ (ΦᵀΦ + λI)⁻¹ φ(x)
        gain(x) = mean over t of c(t, x)² / (s²(x) + λ)                 every structure owns one row
        gain(x) = mean over t of c(t, x) (S(x) + λI)⁻¹ c(t, x)ᵀ         structures own several rows

    The gain is exactly what labelling x takes off the mean residual variance of the targets; scores are
    gains (unit of |φ|²), over the cost where there are costs. Unlike maximal variance it ignores structures
    far from any target. Gains may rise as picks are made, so every pick scores the whole pool.

    | symbol | variable  | shape                 | meaning                                              |
    |--------|-----------|-----------------------|------------------------------------------------------|
    | λ      | noise     | scalar                | in units of |φ|²; rows have mean |φ|² = 1              |
    | t      | target    | Features or None      | where accuracy is wanted; None: a sample of the pool |
    |        | sample    | scalar                | pool structures drawn as targets if target is None   |
    |        | threshold | scalar or None        | stop when the best score falls below it              |
    |        | cost      | (structures,) or None | price of each label                                  |
    |        | budget    | scalar or None        | total cost allowed; the rest is skipped              |

    Source: Yu, Bi & Tresp, ICML 2006, doi:10.1145/1143844.1143980 (transductive experimental design).
    """

    noise: float = 1e-4
    target: Features | None = None
    sample: int = 500
    threshold: float | None = None

    def settled(self, request: Request) -> TargetVariance:
        if self.target is not None:
            return self
        if self.sample <= 0:
            raise SelectionError(f"sample = {self.sample} target structures", expected="at least one")
        n = len(request.pool)
        drawn = np.sort(request.rng.choice(n, size=min(self.sample, n), replace=False))
        by_rank = np.argsort(request.rank)  # the same structures, whatever the order of the pool
        return replace(self, target=request.pool.take(by_rank[drawn]))

    def _choose(self, request: Request) -> Selection:
        check_noise(self.noise)
        pool, train, k, rank = request.pool, request.train, request.k, request.rank
        target = self.settled(request).target
        if target is None or target.dim != pool.dim or len(target) == 0:
            got = "no target" if target is None else f"{len(target)} target structures of width {target.dim}"
            raise SelectionError(
                got,
                expected=f"at least one target, of the pool's width {pool.dim}",
                todo="make target features with the same feature map and settings",
            )
        purse = self._purse(request)
        gains = _Gains(pool, train, target, self.noise, purse.weight)
        novelty = Novelty(train.values)
        left = np.ones(len(pool), dtype=bool)
        left[purse.too_dear()] = False
        novel = np.ones(len(pool), dtype=bool)
        picks: list[int] = []
        scores: list[float] = []
        stopped = Stopped.FILLED
        value, error = gains.scores()
        while len(picks) < k and left.any():
            among = np.flatnonzero(left & novel if (left & novel).any() else left)
            level = (value[among] - error[among]).max()
            ties = among[value[among] + error[among] >= level]
            winner = int(ties[np.argmin(rank[ties])])
            rows = gains.pool.structure(winner)
            if novel[winner] and rows not in novelty:
                novel[novelty.copies(gains.pool, np.flatnonzero(left & novel), winner)] = False
                continue
            if self.threshold is not None and value[winner] < self.threshold:
                stopped = Stopped.BELOW_THRESHOLD
                break
            picks.append(winner)
            scores.append(float(value[winner]))
            left[winner] = False
            purse.pay(winner)
            left[purse.too_dear()] = False
            if len(picks) < k and left.any():
                novelty.add(rows)
                gains.condition(winner)
                value, error = gains.scores()
        if len(picks) == len(pool):
            stopped = Stopped.EXHAUSTED
        elif len(picks) < k and not left.any():
            stopped = Stopped.BUDGET_SPENT
        return Selection(np.array(picks, dtype=np.intp), np.array(scores, dtype=np.float64), stopped)


class _Gains:
    """S = BPBᵀ and H = BPGPBᵀ of every structure's rows B, kept up to date by low-rank corrections.

    With P = λA⁻¹ and G the mean of ttᵀ over target rows t, a structure's gain is tr(H(S + λI)⁻¹). Labelling
    rows turns P into P − UᵀU; with a = BUᵀ and b = B(UGP)ᵀ,

        S ← S − aaᵀ,    H ← H − abᵀ − baᵀ + a(UGUᵀ)aᵀ

    so that a pick costs two products of the pool with a vector, and the targets are never seen again.

    Structures of equal row count r are kept together as stacks of r×r matrices.
    """

    def __init__(
        self,
        pool: Features,
        train: Features,
        target: Features,
        noise: float,
        weight: Float64Array | None = None,
    ) -> None:
        self.pool = Pool(pool)
        self._weight = weight
        self._noise = noise
        self._norms = finite_norms(self.pool, squared_norms(pool.values))
        self._directions = Directions(train.values, noise, np.float64)
        self._root = _root(target)  # R with RᵀR = G
        self._target_map = self._directions.residual(self._root)  # RP
        counts = np.diff(self.pool.starts)
        self._groups = [np.flatnonzero(counts == count) for count in np.unique(counts)]
        self._sizes = [int(count) for count in np.unique(counts)]
        self._start()

    def _start(self) -> None:
        vectors = np.concatenate([self._directions.exact, self._target_map])
        cut = self._directions.count
        self._S, self._H = [], []
        for group, size in zip(self._groups, self._sizes, strict=True):
            S = np.empty((len(group), size, size))
            H = np.empty((len(group), size, size))
            step = max(1, 8192 // size)
            for start in range(0, len(group), step):
                part = group[start : start + step]
                values = self.pool.take(self.pool.rows_of(part), keep=False).astype(np.float64)
                along = (values @ vectors.T).reshape(len(part), size, -1)
                rows = values.reshape(len(part), size, -1)
                explained = along[..., :cut]
                S[start : start + step] = _products(rows, rows) - _products(explained, explained)
                H[start : start + step] = _products(along[..., cut:], along[..., cut:])
            self._S.append(S)
            self._H.append(H)
        self._scale = [np.trace(H, axis1=1, axis2=2) for H in self._H]

    def condition(self, structure: int) -> None:
        """Take the structure's rows as labelled."""
        U = self._directions.add(self.pool.structure(structure))
        across = U @ self._root.T
        W = across @ self._target_map  # UGP, with P from before this pick
        K = across @ across.T  # UGUᵀ
        self._target_map = self._target_map - across.T @ U
        stacked = np.concatenate([U, W])
        along = np.empty((self.pool.n_rows, len(stacked)))
        for where, block in row_blocks(self.pool.values, size=1024):
            along[where] = block @ stacked.T
        for group, size, S, H in zip(self._groups, self._sizes, self._S, self._H, strict=True):
            own = along[self.pool.rows_of(group)].reshape(len(group), size, -1)
            a, b = own[..., : len(U)], own[..., len(U) :]
            mixed = _products(a, b)
            S -= _products(a, a)
            H -= mixed + mixed.transpose(0, 2, 1) - _products(a @ K, a)

    def scores(self) -> tuple[Float64Array, Float64Array]:
        """Gain of every structure times its weight, and how far rounding may have moved it."""
        value = np.empty(self.pool.n_structures)
        error = np.empty(self.pool.n_structures)
        unit = relative_error(self.pool.dim, np.float64)
        for group, size, S, H, scale in zip(
            self._groups, self._sizes, self._S, self._H, self._scale, strict=True
        ):
            norm = self._norms[self.pool.rows_of(group)].reshape(-1, size).sum(axis=1)
            if size == 1:
                least = np.maximum(S[:, 0, 0], 0.0) + self._noise
                gain = H[:, 0, 0] / least
            else:
                # S ≥ 0 up to rounding, so that λ bounds the eigenvalues of S + λI from below
                least = np.full(len(group), self._noise)
                gain = np.trace(np.linalg.solve(S + self._noise * np.eye(size), H), axis1=1, axis2=2)
            value[group] = np.maximum(gain, 0.0)
            error[group] = unit * (scale + value[group] * norm) / least
        return (value, error) if self._weight is None else (value * self._weight, error * self._weight)


def _products(left: Float64Array, right: Float64Array) -> Float64Array:
    return np.asarray(np.matmul(left, right.transpose(0, 2, 1)), dtype=np.float64)


def _root(target: Features) -> Float64Array:
    """R with RᵀR = mean of ttᵀ over the target rows t; at most dim rows."""
    rows = np.concatenate([block for _, block in row_blocks(target.values)])
    if len(rows) > target.dim:
        rows = qr(rows, mode="r", check_finite=False)[0][: target.dim]
    return np.asarray(rows / np.sqrt(len(target.values)), dtype=np.float64)


def target_variance(
    X_pool: NDArray[np.floating],
    X_train: NDArray[np.floating],
    X_target: NDArray[np.floating] | None,
    k: int,
    noise: float = 1e-4,
    *,
    sample: int = 500,
    seed: int = 0,
    threshold: float | None = None,
    cost: FloatArray | None = None,
    budget: float | None = None,
    ids: Sequence[str] | None = None,
) -> Selection:
    """k rows of X_pool that lower the mean residual variance of X_target the most; see `TargetVariance`.

    With X_target None, `sample` rows of the pool, drawn with `seed`, are the targets.
    """
    pool = one_row_each(X_pool, "X_pool")
    target = None if X_target is None else one_row_each(X_target, "X_target")
    rule = TargetVariance(noise, target, sample, threshold, cost=cost, budget=budget)
    train = one_row_each(X_train, "X_train")
    return rule(pool, train, k, rng=np.random.default_rng(seed), rank=rank_of(ids, len(pool)))
