"""A few principal coordinates of every row, from which distances are bounded from below."""

from __future__ import annotations

import numpy as np

from surveyor.selection.pool import Pool
from surveyor.selection.rounding import relative_error
from surveyor.types import Float64Array, IndexArray

COORDINATES = 32
SAMPLE_ROWS = 4096
BLOCK_ROWS = 8192


class Projection:
    """Says which rows could lie closer to a new centre than a given distance, reading q + 1 numbers per row.

    With q orthonormal directions P and the length of the rest, |x⊥|² = |x|² − |Px|²,

        x·c ≤ Px·Pc + |x⊥| |c⊥|,   hence   |x − c|² ≥ |x|² + |c|² − 2 (Px, |x⊥|)·(Pc, |c⊥|)

    P are leading principal directions of a sample, by subspace iteration; any P gives a valid bound.
    Computed coordinates err by at most η√(q+1) (|x|² + |c|²), see `rounding`; the bound is lowered by that.

    | symbol  | variable     | shape         |
    |---------|--------------|---------------|
    | P       | _directions  | (q, dim)      |
    | Px, |x⊥|| _coordinates | (rows, q + 1) |
    """

    def __init__(self, pool: Pool) -> None:
        self._norms = pool.norms
        self._directions = _principal(pool)
        q = len(self._directions)
        self._error = relative_error(pool.dim, pool.dtype) * np.sqrt(q + 1)
        self._coordinates = np.empty((pool.n_rows, q + 1), dtype=pool.dtype)
        directions = self._directions.astype(pool.dtype)
        for start in range(0, pool.n_rows, BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, pool.n_rows))
            along = pool.take(rows, keep=False) @ directions.T
            self._coordinates[rows, :q] = along
            self._coordinates[rows, q] = self._rest(along.astype(np.float64), self._norms[rows])

    def closer(self, centre: Float64Array, distance: Float64Array) -> IndexArray:
        """Rows that may lie closer to `centre` (dim,) than their `distance` (rows,), a squared distance."""
        norm = float(centre @ centre)
        along = self._directions @ centre
        point = np.append(along, self._rest(along[None], np.array([norm]))[0]).astype(self._coordinates.dtype)
        product = self._coordinates @ point
        # |x|² + |c|² − 2 product − error < distance
        slack = (1.0 - self._error) * self._norms - distance
        slack += (1.0 - self._error) * norm
        return np.flatnonzero(slack < 2.0 * product)

    def _rest(self, along: Float64Array, norms: Float64Array) -> Float64Array:
        square = norms - np.einsum("ij,ij->i", along, along)
        return np.asarray(np.sqrt(np.maximum(square, 0.0) + self._error * norms), dtype=np.float64)


def _principal(pool: Pool) -> Float64Array:
    step = max(1, pool.n_rows // SAMPLE_ROWS)
    rows = np.arange(0, pool.n_rows, step, dtype=np.intp)[:SAMPLE_ROWS]
    sample = pool.take(rows, keep=False).astype(np.float64)
    count = min(COORDINATES, pool.dim)
    basis = np.random.default_rng(0).standard_normal((pool.dim, count))
    sample /= float(np.abs(sample).max()) or 1.0  # powers of badly scaled rows would overflow
    for _ in range(3):
        basis, _ = np.linalg.qr(sample.T @ (sample @ basis))
    return np.ascontiguousarray(basis.T)
