"""Ridge regression with free element energies, in a form that takes in more labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from surveyor.linalg import cholesky, solve_cholesky, solve_lower
from surveyor.linearised import Rows
from surveyor.posterior import Posterior
from surveyor.types import Features, Float64Array, FloatArray

DEGENERATE = 1e-12
"""Eigenvalues of HᵀH below this share of the largest: combinations of elements that no label tells apart."""


@dataclass(frozen=True, eq=False)
class Regression:
    """The posterior of weights w and element energies δ after labelled rows; λ and r stay as they are.

        y = Φw + Hδ + ε,      w ~ N(0, σ²/λ),  ε ~ N(0, σ²),  δ free
        S = HᵀH − Bᵀ A⁻¹ B,   A = ΦᵀΦ + λI,    B = ΦᵀH
        δ = S⁺(Hᵀy − Bᵀ A⁻¹ Φᵀy),              w = A⁻¹(Φᵀy − Bδ)
        var = σ² (φᵀA⁻¹φ + uᵀS⁺u),             u = n − BᵀA⁻¹φ

    Φ and y: energy rows times r, then force rows; H: compositions times r, zero for forces. Of several δ that
    fit alike the one of least |δ|.

    | symbol | variable      | shape                | meaning                               | unit    |
    |--------|---------------|----------------------|---------------------------------------|---------|
    | A, Φᵀy | posterior     | (dim, dim), (dim,)   | with noise λ and mean                 |         |
    | B      | cross         | (dim, elements)      |                                       |         |
    | HᵀH    | square        | (elements, elements) |                                       |         |
    | Hᵀy    | moment        | (elements,)          |                                       |         |
    | yᵀy    | power         | scalar               |                                       | (eV/Å)² |
    | r      | energy_weight | scalar               | noise of force rows over that of energies | 1/Å |

    Source: Rasmussen & Williams 2006, sections 2.1 and 2.7.
    """

    posterior: Posterior
    cross: Float64Array
    square: Float64Array
    moment: Float64Array
    power: float
    energy_weight: float

    @classmethod
    def blank(cls, dim: int, elements: int, *, noise: float, energy_weight: float) -> Regression:
        """Before any label."""
        return cls(
            Posterior.fit(Features.empty(dim), noise=noise),
            np.zeros((dim, elements)),
            np.zeros((elements, elements)),
            np.zeros(elements),
            0.0,
            energy_weight,
        )

    def add(self, rows: Rows) -> Regression:
        """With more labels, by an update of the factor of A: O(rows · dim²).

        Raises:
            FeatureError: rows of another width, or that are not finite.
        """
        r = self.energy_weight
        values = np.concatenate([r * rows.energy, rows.forces])
        targets = np.concatenate([r * rows.energy_residual, rows.force_residual])
        energy, free = r * rows.energy, r * rows.composition
        return Regression(
            self.posterior.condition(Features.one_row_each(values), targets=targets),
            self.cross + energy.T @ free,
            self.square + free.T @ free,
            self.moment + free.T @ (r * rows.energy_residual),
            self.power + float(targets @ targets),
            r,
        )

    @cached_property
    def shifts(self) -> Float64Array:
        """δ (elements,), eV."""
        basis, factor, _ = self._free
        right = self.moment - self.cross.T @ self.posterior.weights
        return np.asarray(basis @ solve_cholesky(factor, basis.T @ right), dtype=np.float64)

    @cached_property
    def weights(self) -> Float64Array:
        """w (dim,)."""
        shifted = solve_cholesky(self.posterior.factor, self.cross @ self.shifts)
        return np.asarray(self.posterior.weights - shifted, dtype=np.float64)

    @cached_property
    def noise_std(self) -> float:
        """σ: what a force row is off by, in eV/Å, from all rows: σ² = (|y|² − what is explained) / N."""
        basis, factor, _ = self._free
        right = basis.T @ (self.moment - self.cross.T @ self.posterior.weights)
        moment = self.posterior.moment
        assert moment is not None  # noqa: S101 - every row came with its target
        explained = float(moment @ self.posterior.weights) + float(right @ solve_cholesky(factor, right))
        degrees = max(1, self.posterior.n_rows - basis.shape[1])
        return float(np.sqrt(max(self.power - explained, 0.0) / degrees))

    def std(self, values: FloatArray, composition: Float64Array | None = None) -> Float64Array:
        """What the labels leave open of φ·w + n·δ, of every row (rows,).

        | symbol | variable    | shape            | meaning                                           |
        |--------|-------------|------------------|---------------------------------------------------|
        | φ      | values      | (rows, dim)      |                                                   |
        | n      | composition | (rows, elements) | None: rows of forces, which have no share of δ    |
        """
        basis, factor, carried = self._free
        own = self.posterior.variance(values) / self.posterior.noise
        counts = np.zeros((len(values), len(self.moment))) if composition is None else composition
        u = (counts - np.asarray(values, dtype=np.float64) @ carried) @ basis
        white = solve_lower(factor, u.T)
        spread = np.sqrt(own + np.einsum("ij,ij->j", white, white))
        return np.asarray(self.noise_std * spread, dtype=np.float64)

    @cached_property
    def _free(self) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Basis of the δ that labels tell apart, factor of S within it, and A⁻¹B."""
        levels, vectors = np.linalg.eigh(self.square)
        basis = vectors[:, levels > DEGENERATE * max(float(levels.max(initial=0.0)), 1.0)]
        carried = solve_cholesky(self.posterior.factor, self.cross)
        inner = basis.T @ (self.square - self.cross.T @ carried) @ basis
        return basis, cholesky(0.5 * (inner + inner.T)), carried
