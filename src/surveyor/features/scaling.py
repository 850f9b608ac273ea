"""Scales of feature rows: by size, by length, and one for pool and labelled rows together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from ase import Atoms

from surveyor.errors import FeatureError
from surveyor.features.rows import divided
from surveyor.linalg import squared_norms
from surveyor.types import Features, FloatArray

Normalise = Literal["none", "atoms", "cosine"]


def check_normalise(normalise: str) -> None:
    """Raise a FeatureError unless the name is one of `Normalise`."""
    if normalise not in get_args(Normalise):
        raise FeatureError(f"normalise={normalise!r}", expected=", ".join(get_args(Normalise)))


def normalised(rows: FloatArray, structures: Sequence[Atoms], normalise: Normalise) -> FloatArray:
    """Rows φ as they are (`none`), φ/n with n atoms (`atoms`), or φ/|φ| (`cosine`; zero stays zero).

    | variable   | shape       | meaning                        |
    |------------|-------------|--------------------------------|
    | rows       | (rows, dim) | one row a structure            |
    | structures | (rows,)     | the structures, for their n    |
    """
    if normalise == "atoms":
        return np.asarray(rows / np.array([len(atoms) for atoms in structures])[:, None])
    if normalise == "cosine":
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))
    return rows


def unit_mean_square(pool: Features, *others: Features) -> tuple[Features, ...]:
    """Divide all rows by c = √(mean over the pool of |φ|²).

    The prior residual variance then averages 1 over the pool, and the noise λ is a share of it.

    Raises:
        FeatureError: all pool rows are zero.
    """
    squares = squared_norms(pool.values)
    scale = float(np.sqrt(squares.mean())) if len(squares) else 0.0
    if scale == 0.0:
        raise FeatureError("all feature rows of the pool are zero", expected="features that vary")
    return tuple(divided(features, scale) for features in (pool, *others))
