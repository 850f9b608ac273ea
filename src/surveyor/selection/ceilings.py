"""Upper bounds on what labelling each structure takes off the variance of targets, many labels a pass."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Self

import numpy as np
from scipy.linalg import eigh

from surveyor.linalg import block_norms
from surveyor.selection.gains import Label, Targets
from surveyor.selection.pool import Pool
from surveyor.selection.rounding import relative_error
from surveyor.types import Float64Array, IndexArray

TAIL = 3e-3
MARK = 8
BLOCK_ROWS = 4096
MARGIN = 1.02
"""For the few roundings of what is made of a and b: 4 against the 8√D + 2 of the products themselves."""


class Ceilings:
    """Bounds on the gains of structures of one row each, from products in the working precision.

        gain(x) ≤ (H + η|x|√E) / (max(S − η|x|², 0) + λ)

    Exactly, H = |RPx|² = Σᵢ (mᵢ·x)², where mᵢ = zᵢᵀRP and zᵢ, μᵢ are eigenvectors and eigenvalues of RPRᵀ.
    Its first q terms are computed; with ξᵢ = P^½Rᵀzᵢ/√μᵢ, which are orthonormal, and S = |P^½x|² the others
    are

        Σ_{i>q} μᵢ (ξᵢ·P^½x)²  ≤  μ_{q+1} (S − Σ_{i≤q} (mᵢ·x)²/μᵢ)

    and a label changes S and H by what depends on x through a = u·x and b = w·x only (see `Gains`), so that
    what bounded H from above before does so after it:

        S ← S − a²,    H ← H − 2ab + Ka²

    Rounding moves a by γ|x||u| and b by γ|x||w| at most, 2γ = η (see `rounding`), S by η|x|² for any number
    of labels, and H by 2|a||δb| + 2|b − Ka||δa| a label. As the errors of different vectors are independent,
    their squares add up to η²|x|²E, E growing by a²|w|² + (b − Ka)²|u|² a label, from Σ_{i≤q} (mᵢ·x)²|mᵢ|².
    The sums of the first products are taken in the working precision, too, which moves them by η of
    themselves at most; S is kept from below.

    | symbol | shape         |
    |--------|---------------|
    | S, H, E | (structures,) |
    | q      | scalar, the least with μ_{q+1} ≤ `TAIL` μ₁ |
    """

    def __init__(
        self,
        pool: Pool,
        targets: Targets,
        weight: Float64Array | None = None,
        multiple: Float64Array | None = None,
    ) -> None:
        self._pool = pool
        self._noise = np.full(pool.n_rows, targets.noise) * (1.0 if multiple is None else multiple)
        self._weight = np.ones(pool.n_rows) if weight is None else weight
        self._eta = relative_error(pool.dim, pool.dtype)
        self._S, self._H, self._E = np.empty((3, pool.n_rows))
        value, vectors = eigh(targets.map @ targets.root.T, check_finite=False)
        value, mapped = np.maximum(value[::-1], 0.0), vectors[:, ::-1].T @ targets.map
        q = int(np.count_nonzero(value > TAIL * value[0]))
        rest, value, mapped = float(value[q]) if q < len(value) else 0.0, value[:q], mapped[:q]
        cut = targets.directions.count
        working = np.concatenate([targets.directions.exact, mapped]).astype(pool.dtype)
        sums = np.zeros((4, cut + q), dtype=pool.dtype)
        sums[0, :cut] = 1.0
        sums[1:, cut:] = np.ones(q), 1.0 / value, block_norms(mapped)
        for rows in self._blocks():
            squares = working @ pool.take(rows, keep=False).T
            squares *= squares
            explained, H, share, self._E[rows] = (sums @ squares).astype(np.float64)
            error = self._eta * pool.norms[rows]  # of sums in the working precision, too
            S = pool.norms[rows] - explained
            self._S[rows] = S - error
            self._H[rows] = (1.0 + self._eta) * H + rest * np.maximum(S + 3.0 * error - share, 0.0)

    def values(self) -> Float64Array:
        """At least the gain of every structure, times its weight (structures,)."""
        norms = self._pool.norms
        most = np.maximum(self._H, 0.0) + MARGIN * self._eta * np.sqrt(norms * self._E)
        return np.asarray(self._weight * most / (np.maximum(self._S - self._eta * norms, 0.0) + self._noise))

    def sweep(self, labels: Sequence[Label], levels: Sequence[float]) -> tuple[IndexArray, dict[int, Self]]:
        """Count labels of one row each; which structures may reach a level on the way, all in one pass.

        Level number i belongs to the scores before label number i.

        Returns:
            The first level that each structure may reach, len(labels) if none (structures,); the bounds after
            every `MARK` labels and after all, by the number of labels.
        """
        U, W = np.concatenate([label.U for label in labels]), np.concatenate([label.W for label in labels])
        K = np.array([label.K for label in labels], dtype=self._pool.dtype)[:, 0]
        working = np.concatenate([U, W]).astype(self._pool.dtype)
        u, w = block_norms(U).astype(working.dtype), block_norms(W).astype(working.dtype)
        marks: dict[int, Self] = {
            number: copy(self) for number in {*range(MARK, len(labels), MARK), len(labels)}
        }
        grown = np.empty(self._pool.n_rows)
        for mark in marks.values():
            mark._S, mark._H, mark._E = *np.empty((2, self._pool.n_rows)), grown
        reached = np.full(self._pool.n_rows, len(labels), dtype=np.intp)
        for rows in self._blocks():
            along = working @ self._pool.take(rows, keep=False).T
            a, b = along[: len(U)], along[len(U) :]
            left = b - K * a
            b += left
            b *= a  # 2ab − Ka²
            a *= a
            left *= left
            S, H, E = self._S[rows], self._H[rows], self._E[rows] + w @ a + u @ left
            norms = self._pool.norms[rows]
            slack = MARGIN * self._eta * np.sqrt(norms * E)
            H += slack
            noise, weight = self._noise[rows], self._weight[rows]
            lower = noise - self._eta * norms
            for number in range(len(labels)):
                if number < len(levels):
                    least = np.maximum(S + lower, noise)
                    least *= levels[number]
                    may = H * weight >= least if levels[number] > 0 else np.ones(len(rows), dtype=bool)
                    if may.any():
                        reached[rows[may]] = np.minimum(reached[rows[may]], number)
                S -= a[number]
                H -= b[number]
                if number + 1 in marks:
                    mark = marks[number + 1]
                    mark._S[rows], mark._H[rows], mark._E[rows] = S, H - slack, E
        return reached, marks

    def _blocks(self) -> list[IndexArray]:
        n = self._pool.n_rows
        return [np.arange(start, min(start + BLOCK_ROWS, n)) for start in range(0, n, BLOCK_ROWS)]
