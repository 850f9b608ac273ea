"""The linearised learner: ridge regression of energy and force residuals in tangent features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.linalg import eigh, svd

from surveyor.errors import FeatureError
from surveyor.regression import least_squares
from surveyor.types import Float64Array, IndexArray

Choose = Literal["evidence", "loo"]

ENERGY_WEIGHTS = (3.0, 10.0, 30.0, 100.0)
"""Candidate ratios of the force noise (eV/Å) to the energy noise (eV/atom)."""

NOISES = np.logspace(-4, 1, 21)
"""Candidates for λ, as a share of the rows' mean squared norm. With few labels, both criteria fall for fits
that interpolate noise-free where less was left out; below 1e-4 errors on other frames only grew."""

RANK = 1e-13
"""Squared singular values below this share of the largest are rounding."""

PRODUCTS = 4_000_000
"""Numbers held at a time for leave-one-out errors: 32 MB."""

LEVERAGE = 1e-8
"""A structure that alone determines something has no leave-one-out error, and is left out of their mean."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The labelled rows: residuals of the pretrained potential, and what is linear in the unknowns.

    | symbol | variable | shape          | meaning                                              | unit     |
    |--------|----------|----------------|------------------------------------------------------|----------|
    | X_E    | energy   | (m, dim)       | ∇θE(x) / n(x), one per structure                     |          |
    | y_E    | energy_residual | (m,)    | (E_ref − E) / n                                      | eV/atom  |
    | C      | composition | (m, elements) | n_z / n                                            |          |
    | X_F    | forces   | (rows, dim)    | ∇θ(v·F)                                              |          |
    | y_F    | force_residual | (rows,)  | v·(F_ref − F)                                        | eV/Å     |
    |        | owner    | (rows,)        | force row → structure, non-decreasing                |          |

    With energies of whole structures instead (`residual: sum`), the first three are not divided by n.
    """

    energy: Float64Array
    energy_residual: Float64Array
    composition: Float64Array
    forces: Float64Array
    force_residual: Float64Array
    owner: IndexArray

    def __post_init__(self) -> None:
        m, dim = self.energy.shape
        rows = len(self.forces)
        shapes = (self.energy_residual.shape, len(self.composition), self.forces.shape)
        if (
            m == 0
            or shapes != ((m,), m, (rows, dim))
            or self.force_residual.shape != self.owner.shape != (rows,)
        ):
            raise FeatureError(
                f"rows of shapes {self.energy.shape} and {self.forces.shape}, or no energy at all"
            )
        if not (np.isfinite(self.energy_residual).all() and np.isfinite(self.force_residual).all()):
            raise FeatureError("residuals that are not finite", expected="finite labels and predictions")

    def of_energies(self) -> Rows:
        """The same without the rows of forces."""
        return replace(
            self, forces=self.forces[:0], force_residual=self.force_residual[:0], owner=self.owner[:0]
        )

    def first(self, count: int) -> Rows:
        """Those of the first structures alone."""
        end = int(np.searchsorted(self.owner, count))
        return Rows(
            energy=self.energy[:count],
            energy_residual=self.energy_residual[:count],
            composition=self.composition[:count],
            forces=self.forces[:end],
            force_residual=self.force_residual[:end],
            owner=self.owner[:end],
        )


@dataclass(frozen=True, eq=False)
class Linearised:
    """E(x; θ₀) + Σ_z n_z δ_z + φ(x)·w, and the forces that belong to it.

        min over w, δ of  r² |y_E − C δ − X_E w|² + |y_F − X_F w|² + λ |w|²

    δ is not penalised (of several minima the one of least |δ|). λ and the weight r are the pair of a fixed
    grid of largest evidence, or of least leave-one-structure-out error; see `fit`.

    | symbol | variable | shape       | meaning                                              | unit |
    |--------|----------|-------------|------------------------------------------------------|------|
    | w      | weights  | (dim,)      | step of the (sketched) parameters                    |      |
    | δ      | shifts   | (elements,) | shift of each element's reference energy             | eV   |
    | λ      | noise    | scalar      | noise over prior variance, of a force row            |      |
    | r      | energy_weight | scalar | force noise over energy noise                        |      |
    |        | noise_share | scalar   | λ over the rows' mean squared norm                   |      |

    Source: Rasmussen & Williams 2006, sections 2.1, 2.7 and 5.4; the tangent kernel as in arXiv 2605.03964.
    """

    weights: Float64Array
    shifts: Float64Array
    noise: float
    energy_weight: float
    noise_share: float


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """Rows of one weight r, without what δ explains, in the basis of their own singular vectors.

    | symbol | variable | meaning                                                                     |
    |--------|----------|-----------------------------------------------------------------------------|
    | Φ, y   | rows, targets | energy rows times r, projected off the columns of C; force rows below  |
    | Z, s   | along, square | Z = ΦV, ZᵀZ = diag(s), V the right singular vectors above rounding     |
    | U      | free     | orthonormal columns of C's range                                            |
    """

    rows: Float64Array
    targets: Float64Array
    along: Float64Array
    square: Float64Array
    free: Float64Array
    energy_weight: float
    vectors: Float64Array
    """Eigenvectors: of ΦΦᵀ where Φ has fewer rows than columns, of ΦᵀΦ (then they are V) otherwise."""

    @property
    def degrees(self) -> int:
        """Rows that δ leaves free."""
        return len(self.rows) - int(self.free.shape[1])

    @property
    def scale(self) -> float:
        """Mean squared norm of the rows."""
        return float(max(self.square.sum() / len(self.rows), np.finfo(np.float64).tiny))

    def weights(self, noise: float) -> Float64Array:
        """w = (ΦᵀΦ + λI)⁻¹Φᵀy."""
        along = (self.along.T @ self.targets) / (self.square + noise)
        if _is_wide(self.rows):  # V = ΦᵀU s^-½
            return np.asarray(self.rows.T @ (self.vectors @ (along / np.sqrt(self.square))))
        return np.asarray(self.vectors @ along)

    def evidence(self, noise: float) -> float:
        """log p(y) at the best overall scale σ² = yᵀ(I + ΦΦᵀ/λ)⁻¹y / N, with δ integrated out."""
        n = self.degrees
        energies = len(self.free) - self.free.shape[1]
        fitted = (self.along.T @ self.targets) ** 2 / (self.square + noise)
        quadratic = max(float(self.targets @ self.targets - fitted.sum()), np.finfo(np.float64).tiny)
        log_determinant = float(np.log1p(self.square / noise).sum())
        spread = n * (np.log(2 * np.pi * quadratic / n) + 1) + log_determinant
        return float(energies * np.log(self.energy_weight) - 0.5 * spread)

    def left_out(self, noises: Float64Array, blocks: Sequence[IndexArray]) -> Float64Array:
        """Error of every row under the fits without its structure, NaN where that is not determined.

        e_b = (I − H_bb)⁻¹ (y − ŷ)_b with H = Z (diag(s) + λI)⁻¹ Zᵀ + UUᵀ the smoother of all rows. Products
        of Z's rows within a structure do not depend on λ, so that all λ take one matrix product.

        | variable | shape           |
        |----------|-----------------|
        | noises   | (noises,)       |
        | returned | (rows, noises)  |
        """
        damping = 1.0 / (self.square[:, None] + noises)  # (k, noises)
        residual = self.targets[:, None] - self.along @ (damping * (self.along.T @ self.targets)[:, None])
        found = np.full(residual.shape, np.nan)
        for block in _by_size(blocks):
            size = block.shape[1]
            for part in np.array_split(block, 1 + block.size * size * len(self.square) // PRODUCTS):
                own = self.along[part]  # (structures, size, k)
                products = own[:, :, None, :] * own[:, None, :, :]
                flat = products.reshape(len(part) * size * size, len(damping))
                smooth = (flat @ damping).reshape(-1, size, size, len(noises))
                rest = np.eye(size) - np.moveaxis(smooth, -1, 1)  # (structures, noises, size, size)
                first = self.free[part[:, 0]]
                rest[:, :, 0, 0] -= np.einsum("bk,bk->b", first, first)[:, None]
                sound = (np.abs(np.linalg.det(rest)) > LEVERAGE**size) & (rest[:, :, 0, 0] > LEVERAGE)
                errors = np.full((len(part), len(noises), size), np.nan)
                right = np.moveaxis(residual[part], -1, 1)
                errors[sound] = np.linalg.solve(rest[sound], right[sound][..., None])[..., 0]
                found[part] = np.moveaxis(errors, 1, -1)
        return found


def _by_size(blocks: Sequence[IndexArray]) -> list[IndexArray]:
    sizes = np.array([len(block) for block in blocks])
    return [np.stack([blocks[int(i)] for i in np.flatnonzero(sizes == size)]) for size in np.unique(sizes)]


def fit(
    rows: Rows, *, choose: Choose = "loo", noise: float | None = None, energy_weight: float | None = None
) -> Linearised:
    """Fit w and δ; λ and r come from the labels.

    | choose     | criterion over the grid of λ and r                                                     |
    |------------|----------------------------------------------------------------------------------------|
    | `evidence` | the marginal likelihood of all rows is largest                                         |
    | `loo`      | log mean |e_E| + log mean |e_F| is least, e the errors with one structure left out      |

    Args:
        rows: the labelled rows.
        choose: see the table.
        noise: λ as a share of the rows' mean squared norm, where it shall not be chosen.
        energy_weight: r, where it shall not be chosen.

    Raises:
        FeatureError: rows that do not fit together or are not finite.
    """
    m = len(rows.energy)
    starts = np.searchsorted(rows.owner, np.arange(m + 1))
    blocks = [
        np.concatenate([[i], m + np.arange(starts[i], starts[i + 1])]).astype(np.intp) for i in range(m)
    ]
    shares = NOISES if noise is None else np.array([noise])
    best: tuple[float, float, _Spectrum] | None = None
    weights_of = ENERGY_WEIGHTS if len(rows.forces) else (1.0,)
    for spectrum in _spectra(rows, weights_of if energy_weight is None else (energy_weight,)):
        levels = shares * spectrum.scale
        if choose == "evidence":
            scores = [-spectrum.evidence(float(level)) for level in levels]
        else:
            errors = spectrum.left_out(levels, blocks)
            scores = [_left_out_score(each, m, spectrum.energy_weight) for each in errors.T]
        for share, score in zip(shares, scores, strict=True):
            if best is None or score < best[0]:
                best = (score, float(share), spectrum)
    assert best is not None  # noqa: S101 - the grid is not empty
    _, share, spectrum = best
    level = share * spectrum.scale
    weights = spectrum.weights(level)
    shifts = shift_references(rows.composition, rows.energy_residual - rows.energy @ weights)
    return Linearised(weights, shifts, level, spectrum.energy_weight, share)


def shift_references(composition: Float64Array, residual: Float64Array) -> Float64Array:
    """δ of least |δ| among the minima of |residual − C δ|²; the same as the re-fit before a training."""
    return least_squares(composition, residual)


def _left_out_score(errors: Float64Array, m: int, weight: float) -> float:
    total = 0.0
    for part in (np.abs(errors[:m]) / weight, np.abs(errors[m:])):
        known = part[np.isfinite(part)]
        if len(known):
            total += float(np.log(max(known.mean(), np.finfo(np.float64).tiny)))
    return total


def _is_wide(rows: Float64Array) -> bool:
    return len(rows) < int(rows.shape[1])


def _spectra(rows: Rows, weights: Sequence[float]) -> Iterator[_Spectrum]:
    """The spectrum at every weight; products of rows do not depend on it and are made once."""
    left, singular, _ = svd(rows.composition, full_matrices=False)
    free = left[:, singular > 1e-8 * max(float(singular.max()), np.finfo(np.float64).tiny)]
    X = rows.energy - free @ (free.T @ rows.energy)
    y = rows.energy_residual - free @ (free.T @ rows.energy_residual)
    stacked = np.concatenate([X, rows.forces])
    wide = _is_wide(stacked)
    products = [stacked @ stacked.T] if wide else [X.T @ X, rows.forces.T @ rows.forces]
    for weight in weights:
        scale = np.concatenate([np.full(len(X), weight), np.ones(len(rows.forces))])
        weighted = scale[:, None] * stacked
        gram = products[0] * np.outer(scale, scale) if wide else weight**2 * products[0] + products[1]
        square, vectors = eigh(gram, driver="evd", overwrite_a=True)
        real = square > RANK * max(float(square.max()), np.finfo(np.float64).tiny)
        square, vectors = square[real], vectors[:, real]
        along = vectors * np.sqrt(square) if wide else weighted @ vectors
        targets = np.concatenate([weight * y, rows.force_residual])
        yield _Spectrum(weighted, targets, along, square, free, weight, vectors)
