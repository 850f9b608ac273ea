"""What the next labels are worth, before any is paid: residual variance needs no labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from surveyor.calibration import Calibrations
from surveyor.errors import SelectionError
from surveyor.posterior import Step, structure_std
from surveyor.types import Features, Float64Array, IndexArray

SAMPLE = 2000
"""Pool structures that stand for the pool: the mean over them is good to about 2 %."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """The pool's residual standard deviation, and its expected error, after so many more labels.

        σ_j = √(mean over pool rows of s²(x | the first j picks))

    | symbol  | variable | shape             | meaning                                          | unit     |
    |---------|----------|-------------------|--------------------------------------------------|----------|
    | σ_j/σ_0 | path     | (picks + 1,)      | after every pick, as a share of the start        | 1        |
    |         | labels   | (points,)         | numbers of picks at which the errors are given   |          |
    |         | energy   | (points,) or None | mean expected error of the pool; None: unknown   | meV/atom |
    |         | forces   | (points,) or None | the same for forces of the potential as it is    | meV/Å    |
    |         | n_pool   |                   | pool structures that the means are over          |          |
    """

    path: Float64Array
    labels: IndexArray
    energy: Float64Array | None
    forces: Float64Array | None
    n_pool: int

    @property
    def share(self) -> Float64Array:
        """σ_j/σ_0 at `labels` (points,)."""
        return self.path[self.labels]

    @property
    def gain(self) -> Float64Array:
        """Fall of σ per label since the point before, per cent of the start (points,); NaN at the start."""
        fall = -100 * np.diff(self.share) / np.diff(self.labels)
        return np.concatenate([[np.nan], fall])

    def enough(self, min_gain: float) -> int | None:
        """Labels after which no further one is forecast to gain `min_gain`; None: not within the forecast.

        Single gains scatter, so they are pooled to gains that never rise, by isotonic regression, first.

        Args:
            min_gain: per cent of the start per label.

        Raises:
            SelectionError: min_gain is not positive.
        """
        if not min_gain > 0:
            raise SelectionError(
                f"min-gain = {min_gain}", expected="a positive number, per cent of the start per label"
            )
        gains = isotonic_regression(-100 * np.diff(self.path), increasing=False).x
        below = np.flatnonzero(gains < min_gain)
        return int(below[0]) if len(below) else None

    def __repr__(self) -> str:
        return f"Forecast({len(self.path) - 1} labels: std falls to {self.path[-1]:.1%} of the start)"


def forecast(steps: Sequence[Step], pool: Features, *, calibrations: Calibrations | None = None) -> Forecast:
    """Follow the residual variance of the pool as picks are conditioned on, one after the other.

    | variable     | shape       | meaning                                                        |
    |--------------|-------------|----------------------------------------------------------------|
    | steps        | (picks,)    | the structures that would be labelled, in turn; one at least   |
    | pool         | (rows, dim) | where the variance is looked at; a sample will do              |
    | calibrations |             | std → error; None leaves the errors out                        |

    Raises:
        FeatureError: rows of two widths, or NaN or inf among them.
        SelectionError: no pool structure.
    """
    if len(pool) == 0:
        raise SelectionError("a forecast over an empty pool", expected="at least one structure")
    n_picks = int(steps[-1].owner[-1]) + 1
    labels = points_up_to(n_picks)
    variance = steps[0].before.variance(pool.values)
    start = float(variance.mean())
    path = np.ones(n_picks + 1)
    stds = [structure_std(variance, pool.owner)]
    values = np.asarray(pool.values, dtype=np.float64)
    for step in steps:
        variance = step.before.variance(pool.values)  # afresh at every step: subtraction does not drift
        drops = (step.directions @ values.T) ** 2
        for pick in np.unique(step.owner).tolist():
            variance = np.maximum(variance - drops[step.owner == pick].sum(axis=0), 0.0)
            path[pick + 1] = np.sqrt(variance.mean() / start) if start > 0 else 1.0
            if pick + 1 in labels:
                stds.append(structure_std(variance, pool.owner))
    energy = forces = None
    if calibrations is not None:
        energy = np.array([calibrations.energy.expected(std).mean() for std in stds])
        forces = np.array([calibrations.forces.expected(std).mean() for std in stds])
    return Forecast(path, labels, energy, forces, len(pool))


def points_up_to(n: int) -> IndexArray:
    """0, 1, 2, 5, 10, 20, 50, … and n."""
    steps = [factor * 10**power for power in range(len(str(n))) for factor in (1, 2, 5)]
    return np.array(sorted({0, n, *(step for step in steps if step < n)}), dtype=np.intp)


def sample(pool: Features, size: int, seed: int) -> Features:
    """A seeded sample of the pool's structures, in order; the pool itself where it is no larger."""
    if len(pool) <= size:
        return pool
    chosen = np.random.default_rng(seed).choice(len(pool), size=size, replace=False)
    return pool.take(np.sort(chosen))
