"""From residual standard deviations to errors in meV/atom and meV/Å, by cross-validation on labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from surveyor.errors import FeatureError, StructureError
from surveyor.posterior import Posterior
from surveyor.types import Features, Float64Array, FloatArray, IndexArray

MIN_STRUCTURES = 20
"""Fewer labelled structures leave no rank for an 80 % interval in every fold."""

FLOOR = 1e-3
"""Least expected error, as a share of the mean error: errors are divided by it."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Residual standard deviation → expected error, and an interval that holds the error at a chosen level.

        e(s)   = isotonic regression of |error| on s: the least-squares fit that never falls as s rises
        r_i    = |error_i| / e₋(s_i)                 e₋ fitted without the fold of structure i
        I(s)   = [e(s) q_lo, e(s) q_hi]              q: quantiles of r with finite-sample ranks

    Beyond the standard deviations seen, e(s) stays at the nearest seen value: for a smaller s it is an upper
    bound of what the fit would say.

    | symbol | variable | shape    | meaning                                                     | unit  |
    |--------|----------|----------|-------------------------------------------------------------|-------|
    | s      | std      | (knots,) | residual standard deviation, ascending                      | |φ|   |
    | e(s)   | error    | (knots,) | expected |error| there, linear in between                   | unit  |
    | r      | scores   | (n,)     | held-out errors over their expectation, ascending           | 1     |
    |        | unit     |          | of the errors, for messages                                 |       |
    |        | level    |          | at which the coverage was measured                          |       |
    |        | coverage |          | share of held-out errors inside an interval fitted without their fold | |

    Source: Zadrozny & Elkan, KDD 2002, doi:10.1145/775047.775151; Barlow et al., Statistical Inference under
    Order Restrictions (1972); Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World (2005); Vovk,
    arXiv:1208.0806 (cross-conformal).
    """

    std: Float64Array
    error: Float64Array
    scores: Float64Array
    unit: str
    level: float
    coverage: float

    def expected(self, std: FloatArray | float) -> Float64Array:
        """Expected |error| (unit of the calibration) at every residual standard deviation."""
        return np.asarray(np.interp(std, self.std, self.error), dtype=np.float64)

    def interval(
        self, std: FloatArray | float, level: float | None = None
    ) -> tuple[Float64Array, Float64Array]:
        """Lower and upper bound of |error|, that hold it with probability `level` or more.

        The upper bound is inf where there are too few structures for the level.

        Raises:
            FeatureError: the level is not between 0 and 1.
        """
        low, high = _quantiles(self.scores, self.level if level is None else level)
        expected = self.expected(std)
        return expected * low, expected * high

    @property
    def n_structures(self) -> int:
        """Labelled structures that it was fitted on."""
        return len(self.scores)

    def __repr__(self) -> str:
        return (
            f"Calibration({self.n_structures} structures, {self.error[0]:.3g}–{self.error[-1]:.3g} "
            f"{self.unit}, {self.coverage:.0%} inside {self.level:.0%} intervals)"
        )


@dataclass(frozen=True, eq=False)
class KnownErrors:
    """Errors of a potential on the labelled structures, none of which it was trained on.

    | variable | shape       | meaning                                                        | unit     |
    |----------|-------------|----------------------------------------------------------------|----------|
    | energy   | (n,)        | (E_ref − E) / n_atoms, signed: targets of the linearised learner | meV/atom |
    | forces   | (n,)        | mean of |F − F_ref| over a structure's components              | meV/Å    |
    | groups   | (n,) or None | structures of one group are held out together; None: each alone |         |
    """

    energy: Float64Array
    forces: Float64Array
    groups: Sequence[str] | None = None


@dataclass(frozen=True, eq=False)
class Calibrations:
    """One calibration for energies (meV/atom) and one for forces (meV/Å)."""

    energy: Calibration
    forces: Calibration


def calibrate_both(
    train: Features, known: KnownErrors, *, noise: float, folds: int = 5, level: float = 0.8, seed: int = 0
) -> Calibrations:
    """Energies and forces from the same folds; see `fit_calibration`.

    Energy errors are those of the linearised learner that has the other folds as labels, so that they fall as
    labels come, like std does; force errors are the potential's own. Where structures own several rows, the
    learner of energies is not defined, and energy errors are the potential's own too.

    Raises:
        StructureError: fewer than 20 structures, or one group only.
        FeatureError: errors that do not fit the structures, or are negative or not finite.
    """
    fold = assign_folds(len(train), folds=folds, seed=seed, groups=known.groups)
    std = held_out_std(train, fold, noise=noise)
    one_row = len(train.values) == len(train)
    energy = held_out_errors(train, known.energy, fold, noise=noise) if one_row else np.abs(known.energy)
    return Calibrations(
        fit_calibration(std, energy, fold, level=level, unit="meV/atom"),
        fit_calibration(std, known.forces, fold, level=level, unit="meV/Å"),
    )


def assign_folds(n: int, *, folds: int = 5, seed: int = 0, groups: Sequence[str] | None = None) -> IndexArray:
    """Fold of each of n structures (n,): groups in seeded random order, each to the smallest fold so far.

    There are as many folds as asked for, or as there are groups.

    Raises:
        StructureError: fewer than 20 structures, or fewer than two groups or folds.
    """
    if n < MIN_STRUCTURES:
        raise StructureError(
            f"{n} labelled structures to calibrate with",
            expected=f"at least {MIN_STRUCTURES}",
            todo="label more first; until then read the residual std as a ranking",
        )
    if groups is not None and len(groups) != n:
        raise StructureError(f"{len(groups)} group names for {n} structures", expected="one name each")
    names = (
        np.arange(n) if groups is None else np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    )
    members = np.bincount(names)
    if min(folds, len(members)) < 2:
        raise StructureError(
            f"{len(members)} group and {folds} folds to calibrate with",
            expected="at least two of both: one to fit on, one to measure on",
        )
    sizes = np.zeros(min(folds, len(members)), dtype=np.intp)
    fold_of_group = np.zeros(len(members), dtype=np.intp)
    for group in np.random.default_rng(seed).permutation(len(members)):
        fold_of_group[group] = smallest = int(np.argmin(sizes))
        sizes[smallest] += members[group]
    return fold_of_group[names]


def held_out_std(train: Features, fold: IndexArray, *, noise: float) -> Float64Array:
    """Residual standard deviation of every structure under a posterior of the other folds (n,).

    A structure with several rows takes the root mean square over them.

    Raises:
        SelectionError: noise is not positive.
        FeatureError: NaN or inf among the rows.
    """
    std = np.empty(len(train))
    for number in np.unique(fold):
        own = np.flatnonzero(fold == number)
        held_out = train.take(own)
        posterior = Posterior.fit(train.take(np.flatnonzero(fold != number)), noise=noise)
        variance = posterior.structure_variance(held_out) / np.bincount(held_out.owner)
        std[own] = np.sqrt(np.maximum(variance, 0.0))
    return std


def held_out_errors(
    train: Features, residuals: Float64Array, fold: IndexArray, *, noise: float
) -> Float64Array:
    """|error| of the linearised learner on every structure, from the labels of the other folds only (n,).

        |r(x) − r̄ − φ(x)ᵀ A⁻¹ Φᵀ (r − r̄)|

    The residual std describes this learner: it is what the labels have taught it, and what they have not. The
    error of the potential as it is, which does not fall as labels come, need not follow std at all.

    | symbol | variable  | shape    | meaning                                                             |
    |--------|-----------|----------|---------------------------------------------------------------------|
    | r      | residuals | (n,)     | label minus prediction, on the scale of the rows; one a structure   |
    | r̄      |           | scalar   | mean residual over the other folds                                  |
    | Φ      | train     | (n, dim) | one row a structure                                                 |

    Raises:
        SelectionError: noise is not positive.
        FeatureError: residuals that do not fit the rows or are not finite.
    """
    errors = np.empty(len(train))
    if residuals.shape != (len(train.values),):
        raise FeatureError(
            f"residuals of shape {residuals.shape} for {len(train.values)} rows", expected="one a row"
        )
    for number in np.unique(fold):
        own, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        mean = residuals[others].mean()
        posterior = Posterior.fit(train.take(others), noise=noise, targets=residuals[others] - mean)
        errors[own] = np.abs(residuals[own] - mean - posterior.mean(train.take(own).values))
    return errors


def fit_calibration(
    std: Float64Array, errors: Float64Array, fold: IndexArray, *, level: float = 0.8, unit: str = ""
) -> Calibration:
    """Isotonic expectation and cross-conformal scores from held-out pairs of std and error.

    The measured coverage is one level further out: the errors of a fold are counted inside intervals whose
    expectation and quantiles come from the other folds alone.

    | variable | shape | meaning                                         |
    |----------|-------|-------------------------------------------------|
    | std      | (n,)  | held-out residual standard deviations           |
    | errors   | (n,)  | |error| of the same structures, in `unit`       |
    | fold     | (n,)  | fold of each structure                          |

    Raises:
        FeatureError: shapes that differ, negative or non-finite values, errors that are all zero, or a level
            outside (0, 1).
    """
    errors = np.asarray(errors, dtype=np.float64)
    if not len(std) == len(errors) == len(fold):
        raise FeatureError(
            f"{len(errors)} errors and {len(fold)} folds for {len(std)} structures", expected="one each"
        )
    if not all(np.isfinite(values).all() and (values >= 0).all() for values in (std, errors)):
        raise FeatureError("negative or non-finite errors or stds", expected="absolute errors, finite")
    if not errors.any():
        raise FeatureError(
            "errors that are all zero",
            expected="errors of predictions against labels of another method",
            todo="give labels that did not come from the potential itself",
        )
    inside = np.zeros(len(std), dtype=bool)
    for number in np.unique(fold):
        own, others = fold == number, fold != number
        low, high = _quantiles(_cross_scores(std[others], errors[others], fold[others]), level)
        expected = np.interp(std[own], *_isotonic(std[others], errors[others]))
        inside[own] = (errors[own] >= low * expected) & (errors[own] <= high * expected)
    knots, values = _isotonic(std, errors)
    scores = _cross_scores(std, errors, fold)
    return Calibration(knots, values, scores, unit, level, float(inside.mean()))


def _cross_scores(std: Float64Array, errors: Float64Array, fold: IndexArray) -> Float64Array:
    """|error| over what the other folds expect, ascending; over the overall fit where there is one fold."""
    scores = np.empty(len(std))
    for number in (numbers := np.unique(fold)):
        own = fold == number
        others = ~own if len(numbers) > 1 else own
        scores[own] = errors[own] / np.interp(std[own], *_isotonic(std[others], errors[others]))
    return np.sort(scores)


def _isotonic(std: Float64Array, errors: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Knots of the non-decreasing least-squares fit: the two ends of every level stretch."""
    points, place, counts = np.unique(std, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=errors) / counts
    fitted = np.asarray(isotonic_regression(means, weights=counts).x, dtype=np.float64)
    fitted = np.maximum(fitted, max(FLOOR * float(errors.mean()), float(np.finfo(np.float64).tiny)))
    steps = np.diff(fitted) > 0
    kept = np.concatenate([[True], steps]) | np.concatenate([steps, [True]])
    return points[kept], fitted[kept]


def _quantiles(scores: Float64Array, level: float) -> tuple[float, float]:
    """Central quantiles: their ranks leave at most (1 − level)/2 of n + 1 exchangeable scores a side."""
    if not 0 < level < 1:
        raise FeatureError(f"an interval of level {level}", expected="a number between 0 and 1, such as 0.8")
    n, tail = len(scores), (1 - level) / 2
    below = int(np.floor((n + 1) * tail + 1e-9))
    above = int(np.ceil((n + 1) * (1 - tail) - 1e-9))
    return float(scores[below - 1]) if below > 0 else 0.0, float(scores[above - 1]) if above <= n else np.inf
