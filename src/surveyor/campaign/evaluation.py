"""What a round knows about itself: test errors, and whether the uncertainty follows them."""

from __future__ import annotations

from typing import Any

import numpy as np

from surveyor.acquisition import Featurised
from surveyor.features.scaling import unit_mean_square
from surveyor.metrics import Errors
from surveyor.posterior import Posterior
from surveyor.types import Float64Array


def residual_std(pool: Featurised, labelled: Featurised, test: Featurised, *, noise: float) -> Float64Array:
    """Residual standard deviation of test structures, as a share of the pool's root mean square norm."""
    _, train, query = unit_mean_square(pool.features, labelled.features, test.features)
    return Posterior.fit(train, noise=noise).structure_std(query)


def pearson(a: Float64Array, b: Float64Array) -> float | None:
    """Correlation coefficient; None where one of the two does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def test_figures(found: Errors, std: Float64Array) -> dict[str, Any]:
    """What a round's record says of its test structures."""
    return {
        "energy_mae": found.energy_mae,
        "energy_rmse": found.energy_rmse,
        "force_mae": found.force_mae,
        "force_rmse": found.force_rmse,
        "pearson_energy": pearson(std, found.energy_each),
        "pearson_force": pearson(std, found.force_each),
        "std": std.tolist(),
        "energy_each": found.energy_each.tolist(),
        "force_each": found.force_each.tolist(),
    }
