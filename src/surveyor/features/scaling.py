"""One scale for pool and labelled rows, so that the noise of the posterior has a meaning."""

from __future__ import annotations

import numpy as np

from surveyor.errors import FeatureError
from surveyor.types import Features


def unit_mean_square(pool: Features, *others: Features) -> tuple[Features, ...]:
    """Divide all rows by c = √(mean over the pool of |φ|²).

    The prior residual variance then averages 1 over the pool, and the noise λ is a share of it.

    Raises:
        FeatureError: all pool rows are zero.
    """
    squares = np.einsum("rd,rd->r", pool.values, pool.values, dtype=np.float64)
    scale = float(np.sqrt(squares.mean())) if len(squares) else 0.0
    if scale == 0.0:
        raise FeatureError("all feature rows of the pool are zero", expected="features that vary")
    return tuple(
        Features(
            (features.values / features.values.dtype.type(scale)), features.owner, features.n_structures
        )
        for features in (pool, *others)
    )
