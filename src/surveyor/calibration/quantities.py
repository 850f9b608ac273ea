"""Energies in meV/atom and forces in meV/Å: which errors are calibrated against which std."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surveyor.calibration.folds import assign_folds, held_out
from surveyor.calibration.intervals import Calibration, fit_calibration
from surveyor.posterior import Posterior
from surveyor.types import Features, Float64Array


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
    """One calibration for energies (meV/atom) and one for forces (meV/Å).

    | variable  | shape    | meaning                                          |
    |-----------|----------|--------------------------------------------------|
    | without   | (folds,) | posterior of the labelled rows without each fold |
    """

    energy: Calibration
    forces: Calibration
    without: tuple[Posterior, ...]

    def half_widths(self, features: Features) -> tuple[Float64Array, Float64Array]:
        """Half widths of the intervals of every structure (n,): energy in meV/atom, forces in meV/Å."""
        stds = np.array([posterior.structure_std(features) for posterior in self.without])
        return self.energy.half_width(stds), self.forces.half_width(stds)


def calibrate_both(train: Features, known: KnownErrors, *, noise: float, seed: int = 0) -> Calibrations:
    """Energies and forces from the same folds; see `fit_calibration`.

    Energy errors are those of the linearised learner that has the other folds as labels, so that they fall as
    labels come, like std does; force errors are the potential's own. Where structures own several rows, the
    learner of energies is not defined, and energy errors are the potential's own too.

    Raises:
        StructureError: fewer than 20 structures, or fewer than three groups.
        FeatureError: errors that do not fit the structures, or are negative or not finite.
    """
    fold = assign_folds(len(train), seed=seed, groups=known.groups)
    residuals = known.energy if len(train.values) == len(train) else None
    std, learned = held_out(train, fold, noise=noise, residuals=residuals)
    energy = np.abs(known.energy) if learned is None else learned
    numbers = range(int(fold.max()) + 1)
    return Calibrations(
        fit_calibration(std, energy, fold, unit="meV/atom"),
        fit_calibration(std, known.forces, fold, unit="meV/Å"),
        tuple(Posterior.fit(train.take(np.flatnonzero(fold != number)), noise=noise) for number in numbers),
    )
