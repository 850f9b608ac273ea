"""Energies in meV/atom and forces in meV/Å: which errors are calibrated against which std."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surveyor.calibration.folds import assign_folds, held_out, prior_std, structure_std
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

    Force errors are those of the potential as it is, which no label changes: they are calibrated against the
    prior std, √|φ|², which no label changes either. Energy errors are those of the linearised learner, and
    calibrated against the residual std.

    | variable  | shape    | meaning                                          |
    |-----------|----------|--------------------------------------------------|
    | without   | (folds,) | posterior of the labelled rows without each fold |
    """

    energy: Calibration
    forces: Calibration
    without: tuple[Posterior, ...]

    def energy_half_width(self, features: Features, level: float | None = None) -> Float64Array:
        """Half width of the energy interval of every structure (n,), meV/atom."""
        stds = np.array([structure_std(posterior, features) for posterior in self.without])
        return self.energy.half_width(stds, level)

    def force_half_width(self, features: Features, level: float | None = None) -> Float64Array:
        """Half width of the interval of every structure's mean force error (n,), meV/Å."""
        return self.forces.half_width(prior_std(features), level)


def calibrate_both(
    train: Features, known: KnownErrors, *, noise: float, folds: int = 5, level: float = 0.8, seed: int = 0
) -> Calibrations:
    """Energies and forces from the same folds; see `fit_calibration`.

    Energy errors are those of the linearised learner that has the other folds as labels, so that they fall as
    labels come, like std does; force errors are the potential's own. Where structures own several rows, the
    learner of energies is not defined: energy errors are the potential's own then, against the prior std.

    Raises:
        StructureError: fewer than 20 structures, or fewer than three groups.
        FeatureError: errors that do not fit the structures, or are negative or not finite.
    """
    fold = assign_folds(len(train), folds=folds, seed=seed, groups=known.groups)
    prior = prior_std(train)
    if len(train.values) == len(train):
        std, errors = held_out(train, known.energy, fold, noise=noise)
    else:
        std, errors = prior, np.abs(known.energy)
    numbers = range(int(fold.max()) + 1)
    return Calibrations(
        fit_calibration(std, errors, fold, level=level, unit="meV/atom"),
        fit_calibration(prior, known.forces, fold, level=level, unit="meV/Å"),
        tuple(Posterior.fit(train.take(np.flatnonzero(fold != number)), noise=noise) for number in numbers),
    )
