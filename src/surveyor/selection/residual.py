"""Residual variance of pool rows under a growing set of labelled rows: directions, and bounds on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from surveyor.linalg import Rows, cholesky, explained_directions, solve_lower
from surveyor.selection.bounds import Bounds
from surveyor.selection.pool import Pool
from surveyor.types import Float64Array, IndexArray


class Directions:
    """V with VᵀV = I − λA⁻¹, so that s²(x) = |x|² − |Vx|²; grows by one row for each labelled row.

    With P = I − VᵀV, labelling the rows B adds the rows L⁻¹BP, where LLᵀ = BPBᵀ + λI. That is O(D) a row
    and direction for every pool row, never O(D²).

    | symbol | variable | shape             |
    |--------|----------|-------------------|
    | V      | exact    | (directions, dim) |
    | λ      | noise    | scalar            |
    """

    def __init__(self, train: Rows, noise: float, dtype: type[np.floating]) -> None:
        start = explained_directions(train, noise)
        self.noise = noise
        self.count = len(start)
        self._exact: Float64Array = start
        self._working: NDArray[np.floating] = start.astype(dtype)

    @property
    def exact(self) -> Float64Array:
        return self._exact[: self.count]

    @property
    def working(self) -> NDArray[np.floating]:
        return self._working[: self.count]

    def remainder(self, rows: Float64Array) -> Float64Array:
        """xP of every row (rows, dim)."""
        return rows - (rows @ self.exact.T) @ self.exact

    def covariance(self, rows: Float64Array) -> Float64Array:
        """BPBᵀ, the residual covariance of a few rows (rows, rows)."""
        return self.remainder(rows) @ rows.T

    def add(self, rows: Float64Array) -> Float64Array:
        """Label the rows, all as one block; returns the directions that this added (rows, dim)."""
        remainder = self.remainder(rows)
        block = remainder @ rows.T
        block = (block + block.T) / 2 + self.noise * np.eye(len(rows))
        added = solve_lower(cholesky(block), remainder)
        end = self.count + len(added)
        if end > len(self._exact):
            room = max(end, 2 * len(self._exact), 64)
            self._exact = np.resize(self._exact, (room, rows.shape[1]))
            self._working = np.resize(self._working, (room, rows.shape[1]))
        self._exact[self.count : end] = added
        self._working[self.count : end] = added
        self.count = end
        return added


class VarianceBounds(Bounds):
    """Score of maximal residual variance: s² of single rows, log det(I + S/λ) of blocks of rows.

    For a block the bound is Hadamard's: log det(I + S/λ) ≤ Σ log(1 + s²/λ) over its rows.

    Args:
        weight: (structures,) factor on the score, or None for 1.
        as_gain: use log(1 + s²/λ) for single rows too.
    """

    def __init__(
        self,
        pool: Pool,
        directions: Directions,
        *,
        weight: Float64Array | None = None,
        as_gain: bool = False,
    ) -> None:
        self.directions = directions
        self.gain = as_gain or not pool.single
        self._running = pool.norms.copy()
        super().__init__(pool, pool.norms.copy(), weight)

    @property
    def n_vectors(self) -> int:
        return self.directions.count

    def condition(self, structure: int) -> None:
        self.directions.add(self.pool.structure(structure))

    def _absorb(self, rows: IndexArray, values: NDArray[np.floating], start: int, stop: int) -> None:
        along = (values @ self.directions.working[start:stop].T).astype(np.float64)
        seen = self.absorbed[rows]
        if (seen > start).any():
            along[np.arange(start, stop) < seen[:, None]] = 0.0
        running = self._running[rows] - np.einsum("ij,ij->i", along, along)
        self._running[rows] = running
        bound = np.maximum(running, 0.0) + self.loose * self.norms[rows]
        self.row_bound[rows] = np.minimum(self.row_bound[rows], bound)

    def _fold(self, structures: IndexArray, per_row: Float64Array) -> Float64Array:
        if not self.gain:
            return per_row
        gain = np.log1p(per_row / self.directions.noise)
        return gain if self.pool.single else np.add.reduceat(gain, self.pool.segments(structures))

    def _exact(self, structures: IndexArray) -> tuple[Float64Array, Float64Array]:
        rows = self.pool.rows_of(structures)
        error = self.tight * self.norms[rows]
        if not self.pool.single:
            gains = np.array([self._block_gain(int(structure)) for structure in structures])
            return gains, np.add.reduceat(error, self.pool.segments(structures)) / self.directions.noise
        along = self.pool.take(rows).astype(np.float64) @ self.directions.exact.T
        variance = np.maximum(self.norms[rows] - np.einsum("ij,ij->i", along, along), 0.0)
        self._running[rows] = variance
        self.absorbed[rows] = self.n_vectors
        self.row_bound[rows] = np.minimum(self.row_bound[rows], variance + error)
        if self.gain:
            return np.log1p(variance / self.directions.noise), error / self.directions.noise
        return variance, error

    def _block_gain(self, structure: int) -> float:
        rows = self.pool.structure(structure)
        block = self.directions.covariance(rows) / self.directions.noise
        factor = cholesky((block + block.T) / 2 + np.eye(len(rows)))
        return max(0.0, 2.0 * float(np.log(np.diag(factor)).sum()))
