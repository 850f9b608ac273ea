"""Gaussian posterior of a linear model over feature rows: what the labelled rows leave undetermined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surveyor.errors import FeatureError, SelectionError
from surveyor.linalg import add_rows, cholesky, row_blocks, solve_cholesky, solve_lower
from surveyor.types import Features, Float64Array, IndexArray

BLOCK = 256
"""Picks that enter the posterior at once: more enlarge its small matrices, fewer repeat factorisations."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Bayesian linear regression on feature rows, with unit prior scale and observation noise λ.

        A     = ΦᵀΦ + λI
        s²(x) = λ φ(x)ᵀ A⁻¹ φ(x)            residual variance
        c(x,y)= λ φ(x)ᵀ A⁻¹ φ(y)            residual covariance
        m(x)  = φ(x)ᵀ A⁻¹ Φᵀ y              mean, if targets y came with the labelled rows

    As λ → 0, s²(x) becomes the squared distance of φ(x) from the span of the labelled rows. s² has the
    unit of |φ|²; so has λ: scale the rows to a mean squared norm of 1 and λ is relative to a typical row.

    | symbol | variable  | shape      | meaning                                     |
    |--------|-----------|------------|---------------------------------------------|
    | λ      | noise     | scalar     | noise variance, in units of |φ|²            |
    | L      | factor    | (dim, dim) | lower triangular, LLᵀ = A                   |
    | Φᵀy    | moment    | (dim,)     | None once labelled rows came without targets |
    |        | n_rows    | scalar     | labelled rows so far                        |

    Source: Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), section 2.1.
    """

    noise: float
    factor: Float64Array
    n_rows: int
    moment: Float64Array | None = None

    @classmethod
    def fit(cls, train: Features, *, noise: float, targets: NDArray[np.floating] | None = None) -> Posterior:
        """The posterior after `train`; with `targets` (rows,), what a row's label lacks, it also has a mean.

        Raises:
            SelectionError: noise is not positive and finite.
            FeatureError: targets do not fit the rows, or are not finite.
        """
        check_noise(noise)
        if not isinstance(train, Features):
            raise FeatureError(
                f"{type(train).__name__} where features are expected",
                expected="surveyor.types.Features; of rows (n, dim): Features.one_row_each(rows)",
            )
        prior = np.sqrt(noise) * np.eye(train.dim)
        blank = cls(noise=float(noise), factor=prior, n_rows=0, moment=np.zeros(train.dim))
        return blank.condition(train, targets=targets)

    def condition(self, new: Features, *, targets: NDArray[np.floating] | None = None) -> Posterior:
        """A posterior that has seen `new` too; all rows of a structure enter together, as a block.

        Residual variances need no labels, so `targets` may be missing: then the result has no mean.

        Raises:
            FeatureError: `new` has another width, or targets do not fit the rows or are not finite.
        """
        self._check_width(new.values)
        if len(new.values) == 0:
            moment = self.moment
        elif targets is None:
            moment = None
        else:
            moment = self._moment(new, np.asarray(targets, dtype=np.float64))
        return Posterior(
            noise=self.noise,
            factor=add_rows(self.factor, new.values),
            n_rows=self.n_rows + len(new.values),
            moment=moment,
        )

    @property
    def dim(self) -> int:
        return len(self.factor)

    @property
    def weights(self) -> Float64Array:
        """A⁻¹Φᵀy (dim,), the weights of the linearised learner.

        Raises:
            FeatureError: some labelled rows came without targets.
        """
        if self.moment is None:
            raise FeatureError(
                "a posterior that was conditioned on rows without targets",
                expected="targets for every labelled row",
                todo="pass targets= to fit and condition, or ask for variances only",
            )
        return solve_cholesky(self.factor, self.moment)

    def mean(self, values: NDArray[np.floating]) -> Float64Array:
        """m(x) of every row (rows,), in the unit of the targets.

        Raises:
            FeatureError: no targets, another width, or NaN or inf among the values.
        """
        self._check_width(values)
        weights = self.weights
        result = np.empty(len(values))
        for where, block in row_blocks(values):
            result[where] = block @ weights
        return _finite(result)

    def variance(self, values: NDArray[np.floating]) -> Float64Array:
        """s²(x) of every row (rows,), in the unit of |φ|².

        Raises:
            FeatureError: another width, or NaN or inf among the values.
        """
        self._check_width(values)
        result = np.empty(len(values))
        for where, block in row_blocks(values):
            white = solve_lower(self.factor, block.T)
            result[where] = self.noise * np.einsum("ij,ij->j", white, white)
        return _finite(result)

    def covariance(self, left: NDArray[np.floating], right: NDArray[np.floating]) -> Float64Array:
        """c(x, y) of every pair of rows (left rows, right rows).

        Raises:
            FeatureError: another width.
        """
        self._check_width(left)
        self._check_width(right)
        white_left = solve_lower(self.factor, np.asarray(left, dtype=np.float64).T)
        white_right = solve_lower(self.factor, np.asarray(right, dtype=np.float64).T)
        return self.noise * (white_left.T @ white_right)

    def structure_std(self, features: Features) -> Float64Array:
        """Residual standard deviation of every structure (n_structures,): see `structure_std`.

        Raises:
            FeatureError: another width.
        """
        return structure_std(self.variance(features.values), features.owner)

    def _moment(self, new: Features, targets: Float64Array) -> Float64Array | None:
        if targets.shape != (len(new.values),) or not np.isfinite(targets).all():
            raise FeatureError(
                f"targets of shape {targets.shape} for {len(new.values)} rows, or not all finite",
                expected=f"{len(new.values)} finite targets, one per row",
            )
        if self.moment is None:
            return None
        total = self.moment.copy()
        for where, block in row_blocks(new.values):
            total += block.T @ targets[where]
        return total

    def _check_width(self, values: NDArray[np.floating]) -> None:
        if values.ndim != 2 or values.shape[1] != self.dim:
            raise FeatureError(
                f"feature rows of shape {values.shape}",
                expected=f"(rows, {self.dim}), the width of the labelled rows",
                todo="make all features with the same feature map and settings",
            )

    def __repr__(self) -> str:
        mean = "with" if self.moment is not None else "without"
        return f"Posterior({self.n_rows} labelled rows × {self.dim}, noise {self.noise:g}, {mean} mean)"


@dataclass(frozen=True, eq=False)
class Step:
    """Picks that entered a posterior together, as if one after the other.

        U = L⁻¹ Φ λA⁻¹        with  L Lᵀ = λ Φ A⁻¹ Φᵀ + λI
        s²(x | picks up to j) = s²(x) − Σ_{i≤j} (U_i·φ(x))²

    Row j of U is also the direction that pick j's own variance is measured along: U_j ∝ A_j⁻¹ φ_j, with A_j
    of the labelled rows and the picks before j.

    | symbol | variable   | shape       | meaning                                                    |
    |--------|------------|-------------|------------------------------------------------------------|
    | A      | before     |             | the posterior without these picks                          |
    |        | owner      | (rows,)     | number of the pick that each row belongs to                |
    | U      | directions | (rows, dim) | what each row takes off the residual variance of any other |
    |        | variance   | (rows,)     | residual variance of each row, given the rows before it    |

    Source: Rasmussen & Williams 2006, appendix A.3 (partitioned inverse).
    """

    before: Posterior
    owner: IndexArray
    directions: Float64Array
    variance: Float64Array


def condition_in_turn(
    posterior: Posterior, picks: Features, *, block: int = BLOCK, cut: int = 0
) -> Iterator[Step]:
    """Condition on picks one after the other, in steps of at most `block` structures, which are never cut.

    Args:
        cut: no step holds picks on both sides of this number: those before it do not depend on the rest.
    """
    starts = [*range(0, min(cut, len(picks)), block), *range(cut, len(picks), block)]
    part = None
    for first, end in zip(starts, [*starts[1:], len(picks)], strict=True):
        if part is not None:
            posterior = posterior.condition(part)
        part = picks.take(range(first, end))
        values = np.asarray(part.values, dtype=np.float64)
        mapped = posterior.noise * solve_cholesky(posterior.factor, values.T).T
        factor = cholesky(posterior.covariance(values, values) + posterior.noise * np.eye(len(values)))
        variance = np.maximum(np.diag(factor) ** 2 - posterior.noise, 0.0)
        yield Step(posterior, part.owner + first, solve_lower(factor, mapped), variance)


def structure_std(variance: Float64Array, owner: IndexArray) -> Float64Array:
    """Residual standard deviation of every structure: the root mean square over its rows."""
    return np.sqrt(np.bincount(owner, weights=variance) / np.bincount(owner))


def check_noise(noise: float) -> None:
    """Raises SelectionError unless noise is positive and finite."""
    if not (np.isfinite(noise) and noise > 0):
        raise SelectionError(
            f"noise = {noise!r}",
            expected="a positive number, in units of the rows' squared norm",
            todo="take 1e-4 for rows scaled to a mean squared norm of 1",
        )


def _finite(result: Float64Array) -> Float64Array:
    if not np.isfinite(result).all():
        raise FeatureError(
            f"row {int(np.argmin(np.isfinite(result)))} of the features holds NaN or inf, or overflows",
            expected="finite features",
            todo="look at that structure's geometry, and scale the rows to a mean squared norm of 1",
        )
    return result
