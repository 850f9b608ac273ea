"""What labelling a structure takes off the mean residual variance of targets, in float64."""

from __future__ import annotations

from copy import copy, deepcopy
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from surveyor.linalg import row_blocks
from surveyor.selection.pool import Pool
from surveyor.selection.residual import Directions
from surveyor.selection.rounding import relative_error
from surveyor.selection.rule import Score, Ties, tied
from surveyor.types import Features, Float64Array


class Label(NamedTuple):
    """What labelling r rows B does: P ← P − UᵀU.

    | symbol | shape    | meaning                           |
    |--------|----------|-----------------------------------|
    | U      | (r, dim) | L⁻¹BP, where LLᵀ = BPBᵀ + λI      |
    | W      | (r, dim) | UGP, with P from before the label |
    | K      | (r, r)   | UGUᵀ                              |
    """

    U: Float64Array
    W: Float64Array
    K: Float64Array


class Targets:
    """P = λA⁻¹ and RP, where RᵀR = G is the mean of ttᵀ over the target rows t.

    | symbol | variable   | shape         |
    |--------|------------|---------------|
    | R      | root       | (≤ dim, dim)  |
    | RP     | map        | (≤ dim, dim)  |
    | I − P  | directions | VᵀV, see there |
    """

    def __init__(self, train: Features, target: Features, noise: float) -> None:
        self.noise = noise
        self.directions = Directions(train.values, noise, np.float64)
        self.root = _root(target)
        self.map = self.directions.remainder(self.root)

    def label(self, rows: Float64Array) -> Label:
        """Label rows (r, dim), all as one block."""
        U = self.directions.add(rows)
        across = U @ self.root.T
        W = across @ self.map
        self.map = self.map - across.T @ U
        return Label(U, W, across @ across.T)


class Gains(Score):
    """S = BPBᵀ and H = BPGPBᵀ of every structure's rows B, kept up to date by low-rank corrections.

    A structure's gain is tr(H(S + λI)⁻¹). Labelling rows turns P into P − UᵀU; with a = BUᵀ and b = BWᵀ,

        S ← S − aaᵀ,    H ← H − abᵀ − baᵀ + aKaᵀ

    so that a pick costs two products of the pool with a vector, and the targets are never seen again.
    `multiple` (structures,), 1 where it is None, are multiples of λ; rows of `train` are over their roots.

    Structures of equal row count r are kept together as stacks of r×r matrices.
    """

    def __init__(
        self,
        pool: Pool,
        targets: Targets,
        weight: Float64Array | None = None,
        multiple: Float64Array | None = None,
    ) -> None:
        self.pool = pool
        self._targets = targets
        self._weight = weight
        self._multiple = np.ones(pool.n_structures) if multiple is None else multiple
        self._noise = targets.noise * self._multiple
        self._norms = pool.norms
        counts = np.diff(self.pool.starts)
        self._groups = [np.flatnonzero(counts == count) for count in np.unique(counts)]
        self._sizes = [int(count) for count in np.unique(counts)]
        self._start()
        self.value, self.error = self.scores()

    def best(self, allowed: NDArray[np.bool_]) -> Ties:
        among = np.flatnonzero(allowed)
        return tied(among, self.value[among], self.error[among])

    def take(self, structure: int) -> None:
        self.label(structure)

    def label(self, structure: int) -> Label:
        """Count the structure as labelled; returns what that does to any row."""
        # a label of n times the noise says what a row of 1/√n times the length says
        label = self._targets.label(self.pool.structure(structure) / np.sqrt(self._multiple[structure]))
        self.absorb(label)
        return label

    def absorb(self, label: Label) -> None:
        """Bring S and H up to date with a label that the targets have counted."""
        U, W, K = label
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
        self.value, self.error = self.scores()

    def branch(self) -> Self:
        """The same scores, whose further labels leave these as they are."""
        other = copy(self)
        other._targets, other._S, other._H = deepcopy((self._targets, self._S, self._H))
        return other

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

    def _start(self) -> None:
        vectors = np.concatenate([self._targets.directions.exact, self._targets.map])
        cut = self._targets.directions.count
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


def _products(left: Float64Array, right: Float64Array) -> Float64Array:
    return np.asarray(np.matmul(left, right.transpose(0, 2, 1)), dtype=np.float64)


def _root(target: Features) -> Float64Array:
    """R with RᵀR = mean of ttᵀ over the target rows t; at most dim rows."""
    rows = np.concatenate([block for _, block in row_blocks(target.values)])
    if len(rows) > target.dim:
        rows = qr(rows, mode="r", check_finite=False)[0][: target.dim]
    return np.asarray(rows / np.sqrt(len(target.values)), dtype=np.float64)
