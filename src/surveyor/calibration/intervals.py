"""From standard deviations to expected errors and intervals, by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from surveyor.errors import FeatureError
from surveyor.types import Float64Array, FloatArray, IndexArray

FLOOR = 1e-3
"""Least expected error, as a share of the mean error: errors are divided by it."""

BLOCK = 512
"""Standard deviations that are looked at together: each needs a number per labelled structure."""


@dataclass(frozen=True, eq=False)
class WithoutFold:
    """What the other folds expect, and how the errors of this fold compare with it.

    | symbol | variable | shape    | meaning                                                       | unit |
    |--------|----------|----------|---------------------------------------------------------------|------|
    | s      | std      | (knots,) | residual standard deviation, ascending                        | |φ|  |
    | e₋(s)  | error    | (knots,) | expected |error| there, fitted on the other folds             | unit |
    | r      | scores   | (n,)     | |error| over e₋(s), of every structure of this fold           | 1    |
    """

    std: Float64Array
    error: Float64Array
    scores: Float64Array


@dataclass(frozen=True, eq=False)
class Calibration:
    """Residual standard deviation → expected error, and an interval about the prediction.

        e(s)   = isotonic regression of |error| on s: the least-squares fit that never falls as s rises
        r_i    = |error_i| / e₋(s₋(x_i))       s₋ and e₋ without the fold of structure i
        h(x)   = quantile over i of r_i e₋(s₋(x))    with s₋ and e₋ of structure i; finite-sample rank

    The label lies within prediction ± h(x) with the level asked for (CV+). Scores are compared with what the
    same folds say of x, so that both know equally many labels: std falls with every label, and quantiles of
    the scores times e(s), with s from all labels, would be too narrow. Beyond the standard deviations seen,
    e(s) stays at the nearest seen value: for a smaller s it is an upper bound of what the fit would say.

    | symbol | variable | shape    | meaning                                                     | unit  |
    |--------|----------|----------|-------------------------------------------------------------|-------|
    | s      | std      | (knots,) | residual standard deviation, ascending                      | |φ|   |
    | e(s)   | error    | (knots,) | expected |error| there, linear in between                   | unit  |
    | e₋, r  | folds    | (folds,) | one per fold                                                |       |
    |        | unit     |          | of the errors, for messages                                 |       |
    |        | level    |          | at which the coverage was measured                          |       |
    |        | inside   | (n,)     | whether a structure's error is inside what the other folds say |   |

    Source: Zadrozny & Elkan, KDD 2002, doi:10.1145/775047.775151 (isotonic calibration); Barber, Candès,
    Ramdas & Tibshirani, Ann. Statist. 49 (2021) 486, doi:10.1214/20-AOS1965 (CV+); Lei et al., J. Am. Stat.
    Assoc. 113 (2018) 1094, doi:10.1080/01621459.2017.1307116 (scores over an expectation).
    """

    std: Float64Array
    error: Float64Array
    folds: tuple[WithoutFold, ...]
    unit: str
    level: float
    inside: NDArray[np.bool_]

    @property
    def coverage(self) -> float:
        """Share of held-out errors inside an interval that was fitted without their fold."""
        return float(self.inside.mean())

    def expected(self, std: FloatArray | float) -> Float64Array:
        """Expected |error| (unit of the calibration) at every residual standard deviation."""
        return np.asarray(np.interp(std, self.std, self.error), dtype=np.float64)

    def half_width(self, std: FloatArray, level: float | None = None) -> Float64Array:
        """h (n,): the label lies within prediction ± h with probability `level`; inf with too few structures.

        Args:
            std: (folds, n), under the posterior without each fold; (n,) where std depends on no label.

        Raises:
            FeatureError: the level is not between 0 and 1, or std has another number of folds.
        """
        wanted = np.asarray(std, dtype=np.float64)
        if wanted.ndim == 1:
            wanted = np.broadcast_to(wanted, (len(self.folds), len(wanted)))
        if wanted.ndim != 2 or len(wanted) != len(self.folds):
            raise FeatureError(
                f"stds of shape {wanted.shape}", expected=f"({len(self.folds)}, n): one row per fold"
            )
        return _half_width(self.folds, wanted, self.level if level is None else level)

    @property
    def n_structures(self) -> int:
        """Labelled structures that it was fitted on."""
        return sum(len(fold.scores) for fold in self.folds)

    def __repr__(self) -> str:
        return (
            f"Calibration({self.n_structures} structures, {self.error[0]:.3g}–{self.error[-1]:.3g} "
            f"{self.unit}, {self.coverage:.0%} inside {self.level:.0%} intervals)"
        )


def fit_calibration(
    std: Float64Array, errors: Float64Array, fold: IndexArray, *, level: float = 0.8, unit: str = ""
) -> Calibration:
    """Isotonic expectations and scores from held-out pairs of std and error.

    The coverage is measured one level further out: the errors of a fold are counted inside intervals that
    come from the other folds alone, from posteriors that have seen no label of it.

    | variable | shape              | meaning                                                           |
    |----------|--------------------|-------------------------------------------------------------------|
    | std      | (folds, n) or (n,) | as `held_out` gives it; (n,) where no label changes it            |
    | errors   | (folds, n) or (n,) | |error| of the same structures, in `unit`                         |
    | fold     | (n,)               | fold of each structure, 0 … folds − 1                             |

    Raises:
        FeatureError: shapes that differ, negative or non-finite values, errors that are all zero, or a level
            outside (0, 1).
    """
    count, n = int(fold.max()) + 1, len(fold)
    try:
        std = np.broadcast_to(np.asarray(std, dtype=np.float64), (count, n))
        errors = np.broadcast_to(np.asarray(errors, dtype=np.float64), (count, n))
    except ValueError as error:
        raise FeatureError(
            f"errors of shape {np.shape(errors)} and stds of shape {np.shape(std)} for {n} structures",
            expected=f"({n},) or ({count}, {n})",
        ) from error
    if not all(np.isfinite(values).all() and (values >= 0).all() for values in (std, errors)):
        raise FeatureError("negative or non-finite errors or stds", expected="absolute errors, finite")
    if not errors.any():
        raise FeatureError(
            "errors that are all zero",
            expected="errors of predictions against labels of another method",
            todo="give labels that did not come from the potential itself",
        )
    each = np.arange(n)
    final_std, final_errors = std[fold, each], errors[fold, each]
    inside = np.zeros(n, dtype=bool)
    for number in range(count):
        own, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        rest = _without_each(std[number, others], errors[number, others], fold[others])
        seen = std[np.unique(fold[others])][:, own]
        inside[own] = final_errors[own] <= _half_width(rest, seen, level)
    knots, values = _isotonic(final_std, final_errors)
    parts = _without_each(final_std, final_errors, fold)
    return Calibration(knots, values, parts, unit, level, inside)


def _without_each(std: Float64Array, errors: Float64Array, fold: IndexArray) -> tuple[WithoutFold, ...]:
    """Expectation without each fold, and the fold's scores; over its own fit where there is one fold."""
    parts = []
    for number in (numbers := np.unique(fold)):
        own = fold == number
        others = ~own if len(numbers) > 1 else own
        knots, values = _isotonic(std[others], errors[others])
        parts.append(WithoutFold(knots, values, errors[own] / np.interp(std[own], knots, values)))
    return tuple(parts)


def _isotonic(std: Float64Array, errors: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Knots of the non-decreasing least-squares fit: the two ends of every level stretch."""
    points, place, counts = np.unique(std, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=errors) / counts
    fitted = np.asarray(isotonic_regression(means, weights=counts).x, dtype=np.float64)
    fitted = np.maximum(fitted, max(FLOOR * float(errors.mean()), float(np.finfo(np.float64).tiny)))
    steps = np.diff(fitted) > 0
    kept = np.concatenate([[True], steps]) | np.concatenate([steps, [True]])
    return points[kept], fitted[kept]


def _half_width(folds: Sequence[WithoutFold], std: Float64Array, level: float) -> Float64Array:
    """The ⌈(n + 1) level⌉-th smallest of r_i e₋(s₋) over all n structures, for every column of std."""
    if not 0 < level < 1:
        raise FeatureError(f"an interval of level {level}", expected="a number between 0 and 1, such as 0.8")
    n = sum(len(fold.scores) for fold in folds)
    place = int(np.ceil((n + 1) * level - 1e-9)) - 1
    if place >= n:
        return np.full(std.shape[1], np.inf)
    result = np.empty(std.shape[1])
    for start in range(0, len(result), BLOCK):
        part = slice(start, start + BLOCK)
        products = [
            np.outer(np.interp(own[part], fold.std, fold.error), fold.scores)
            for own, fold in zip(std, folds, strict=True)
        ]
        result[part] = np.partition(np.concatenate(products, axis=1), place, axis=1)[:, place]
    return result
