"""Linear regression, plain and robust."""

from __future__ import annotations

import numpy as np

from surveyor.types import Float64Array

CUTOFF = 1e-8
TO_SIGMA = 1.4826
"""Standard deviation / median absolute deviation of a normal distribution."""


def least_squares(
    design: Float64Array, values: Float64Array, *, cutoff: float | None = CUTOFF
) -> Float64Array:
    """argmin_δ |A δ − y|²; of all minima the one of least |δ|.

    | symbol | variable | shape           | meaning                                                          |
    |--------|----------|-----------------|------------------------------------------------------------------|
    | A      | design   | (rows, columns) |                                                                  |
    | y      | values   | (rows,)         |                                                                  |
    |        | cutoff   | scalar          | singular values that count, of the largest; None: to rounding    |
    """
    return np.asarray(np.linalg.lstsq(design, values, rcond=cutoff)[0], dtype=np.float64)


def least_absolute(
    design: Float64Array,
    values: Float64Array,
    *,
    floor: float,
    share: float = 0.0,
    iterations: int = 50,
    cutoff: float | None = None,
) -> Float64Array:
    """argmin_δ Σ |A δ − y|, by least squares with weights 1/max(|A δ − y|, f), again and again.

    A few wrong values do not move it, where least squares would bend to them.

    | symbol | variable     | meaning                                          |
    |--------|--------------|--------------------------------------------------|
    | f      | floor, share | the larger of floor and share · median |A δ − y| |
    """
    weights = np.ones(len(values))
    solution = np.zeros(design.shape[1])
    for _ in range(iterations):
        root = np.sqrt(weights)
        solution = least_squares(design * root[:, None], values * root, cutoff=cutoff)
        left = np.abs(values - design @ solution)
        weights = 1 / np.maximum(left, max(floor, share * float(np.median(left))))
        weights /= weights.max()
    return solution


def spread(values: Float64Array) -> float:
    """1.4826 median |y − median y|: the standard deviation of the bulk."""
    return TO_SIGMA * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0
