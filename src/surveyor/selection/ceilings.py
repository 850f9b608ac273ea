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

TAIL = 1e-3
BLOCK_ROWS = 4096


class Ceilings:
    """Bounds on the gains of structures of one row each, from products in the working precision.

        gain(x) ≤ (H + η|x|√E) / (max(S − η|x|², 0) + λ)

    Exactly, H = |RPx|² = Σᵢ (mᵢ·x)², where mᵢ = zᵢᵀRP and zᵢ, μᵢ are eigenvectors and eigenvalues of RPRᵀ. Its
    first q terms are computed; with ξᵢ = P^½Rᵀzᵢ/√μᵢ, which are orthonormal, and S = |P^½x|² the others are

        Σ_{i>q} μᵢ (ξᵢ·P^½x)²  ≤  μ_{q+1} (S − Σ_{i≤q} (mᵢ·x)²/μᵢ)

    and a label changes S and H by what depends on x through a = u·x and b = w·x only (see `Gains`), so that
    what bounded H from above before does so after it:

        S ← S − a²,    H ← H − 2ab + Ka²

    Rounding moves a by γ|x||u| and b by γ|x||w| at most, 2γ = η (see `rounding`), S by η|x|² for any number of
    labels, and H by 2|a||δb| + 2|b − Ka||δa| a label. As the errors of different vectors are independent,
    their squares add up to η²|x|²E, E growing by a²|w|² + (b − Ka)²|u|² a label, from Σ_{i≤q} (mᵢ·x)²|mᵢ|².

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
        sums = np.stack([np.ones(q), 1.0 / value, block_norms(mapped)])
        for rows in self._blocks():
            norms = pool.norms[rows]
            squares = (working @ pool.take(rows, keep=False).T).astype(np.float64)
            squares *= squares
            S = norms - squares[:cut].sum(axis=0)
            H, explained, self._E[rows] = sums @ squares[cut:]
            self._S[rows] = S
            self._H[rows] = H + rest * np.maximum(S + 2 * self._eta * norms - explained, 0.0)

    def values(self) -> Float64Array:
        """At least the gain of every structure, times its weight (structures,)."""
        norms = self._pool.norms
        most = np.maximum(self._H, 0.0) + self._eta * np.sqrt(norms * self._E)
        return np.asarray(self._weight * most / (np.maximum(self._S - self._eta * norms, 0.0) + self._noise))

    def sweep(self, labels: Sequence[Label], levels: Sequence[float]) -> tuple[IndexArray, Self]:
        """Count labels of one row each; which structures may reach a level on the way, all in one pass.

        Level number i belongs to the scores before label number i.

        Returns:
            The first level that each structure may reach, len(levels) if none (structures,); the bounds after
            all labels.
        """
        U, W = np.concatenate([label.U for label in labels]), np.concatenate([label.W for label in labels])
        K = np.array([label.K[0, 0] for label in labels])[:, None]
        working = np.concatenate([U, W]).astype(self._pool.dtype)
        u, w = block_norms(U), block_norms(W)
        after = copy(self)
        after._S, after._H, after._E = np.empty((3, self._pool.n_rows))
        reached = np.full(self._pool.n_rows, len(levels), dtype=np.intp)
        for rows in self._blocks():
            along = (working @ self._pool.take(rows, keep=False).T).astype(np.float64)
            a, b = along[: len(U)], along[len(U) :]
            left = b - K * a
            b += left
            b *= a  # 2ab − Ka²
            a *= a
            left *= left
            S, H, E = self._S[rows], self._H[rows], self._E[rows] + w @ a + u @ left
            norms = self._pool.norms[rows]
            slack = self._eta * np.sqrt(norms * E)
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
            H -= slack
            after._S[rows], after._H[rows], after._E[rows] = S, H, E
        return reached, after

    def _blocks(self) -> list[IndexArray]:
        n = self._pool.n_rows
        return [np.arange(start, min(start + BLOCK_ROWS, n)) for start in range(0, n, BLOCK_ROWS)]
