"""Target-variance (V-optimal) selection: the least mean residual variance where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from surveyor.errors import SelectionError
from surveyor.linalg import row_blocks
from surveyor.posterior import check_noise
from surveyor.selection.pool import Pool
from surveyor.selection.residual import Directions
from surveyor.selection.rounding import relative_error
from surveyor.selection.rule import PricedRule, Request, Score, Ties, tied
from surveyor.types import Features, Float64Array


@dataclass(frozen=True, eq=False)
class TargetVariance(PricedRule):
    """Least residual variance where you will simulate, or on average over the pool.

    Greedy V-optimal design: each pick lowers the mean residual variance of the target rows the most.

        c(t, x) = λ φ(t)ᵀ (ΦᵀΦ + λI)⁻¹ φ(x)
        gain(x) = mean over t of c(t, x)² / (s²(x) + λ)                 every structure owns one row
        gain(x) = mean over t of c(t, x) (S(x) + λI)⁻¹ c(t, x)ᵀ         structures own several rows

    The gain is exactly what labelling x takes off the mean residual variance of the targets; scores are
    gains (unit of |φ|²), over the cost where there are costs. Unlike maximal variance it ignores structures
    far from any target. Gains may rise as picks are made, so every pick scores the whole pool.

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
        return Gains(request.view, request.train, self.target_of(request), self.noise, request.weight)

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


class Gains(Score):
    """S = BPBᵀ and H = BPGPBᵀ of every structure's rows B, kept up to date by low-rank corrections.

    With P = λA⁻¹ and G the mean of ttᵀ over target rows t, a structure's gain is tr(H(S + λI)⁻¹). Labelling
    rows turns P into P − UᵀU; with a = BUᵀ and b = B(UGP)ᵀ,

        S ← S − aaᵀ,    H ← H − abᵀ − baᵀ + a(UGUᵀ)aᵀ

    so that a pick costs two products of the pool with a vector, and the targets are never seen again.
    `multiple` (structures,), 1 where it is None, are multiples of λ; rows of `train` are over their roots.

    Structures of equal row count r are kept together as stacks of r×r matrices.
    """

    def __init__(
        self,
        pool: Pool,
        train: Features,
        target: Features,
        noise: float,
        weight: Float64Array | None = None,
        multiple: Float64Array | None = None,
    ) -> None:
        self.pool = pool
        self._weight = weight
        self._multiple = np.ones(pool.n_structures) if multiple is None else multiple
        self._noise = noise * self._multiple
        self._norms = pool.norms
        self._directions = Directions(train.values, noise, np.float64)
        self._root = _root(target)  # R with RᵀR = G
        self._target_map = self._directions.remainder(self._root)  # RP
        counts = np.diff(self.pool.starts)
        self._groups = [np.flatnonzero(counts == count) for count in np.unique(counts)]
        self._sizes = [int(count) for count in np.unique(counts)]
        self._start()
        self._value, self._error = self.scores()

    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        among = np.flatnonzero(allowed)
        return tied(among, self._value[among], self._error[among])

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

    def take(self, structure: int) -> None:
        # a label of n times the noise says what a row of 1/√n times the length says
        rows = self.pool.structure(structure) / np.sqrt(self._multiple[structure])
        U = self._directions.add(rows)
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
        self._value, self._error = self.scores()

    def scores(self) -> tuple[Float64Array, Float64Array]:
        """Gain of every structure times its weight, and how far rounding may have moved it."""
        value = np.empty(self.pool.n_structures)
        error = np.empty(self.pool.n_structures)
        unit = relative_error(self.pool.dim, np.float64)
        for group, size, S, H, scale in zip(
            self._groups, self._sizes, self._S, self._H, self._scale, strict=True
        ):
            norm = self._norms[self.pool.rows_of(group)].reshape(-1, size).sum(axis=1)
            noise = self._noise[group]
            if size == 1:
                least = np.maximum(S[:, 0, 0], 0.0) + noise
                gain = H[:, 0, 0] / least
            else:
                # S ≥ 0 up to rounding, so that λ bounds the eigenvalues of S + λI from below
                least = noise
                gain = np.trace(np.linalg.solve(S + noise[:, None, None] * np.eye(size), H), axis1=1, axis2=2)
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
