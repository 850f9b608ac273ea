"""Errors of predictions on the test frames, and how far an uncertainty follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from scipy.stats import spearmanr

from surveyor.calibration import MIN_STRUCTURES, assign_folds, fit_calibration
from surveyor.campaign.evaluation import pearson
from surveyor.errors import PotentialError
from surveyor.structures.labels import ENERGY_KEY, FORCES_KEY
from surveyor.types import Float64Array, Labels

MEV = 1e3


@dataclass(frozen=True, eq=False)
class Truth:
    """The labels of the test frames.

    | variable | shape           | meaning                                  | unit  |
    |----------|-----------------|------------------------------------------|-------|
    | energies | (n,)            |                                          | eV    |
    | forces   | (n_atoms, 3) each | None where the frame has energy only   | eV/Å  |
    | sizes    | (n,)            | number of atoms                          |       |
    """

    energies: Float64Array
    forces: list[Float64Array | None]
    sizes: Float64Array
    reactions: list[str]
    kinds: list[str]

    @classmethod
    def of(cls, test: Sequence[Atoms]) -> Truth:
        return cls(
            energies=np.array([float(atoms.info[ENERGY_KEY]) for atoms in test]),
            forces=[
                np.asarray(atoms.arrays[FORCES_KEY], dtype=np.float64) if FORCES_KEY in atoms.arrays else None
                for atoms in test
            ],
            sizes=np.array([float(len(atoms)) for atoms in test]),
            reactions=[str(atoms.info["reaction"]) for atoms in test],
            kinds=[str(atoms.info["config_type"]) for atoms in test],
        )


@dataclass(frozen=True, eq=False)
class Scores:
    """Errors on the test frames; definitions as in `surveyor.metrics`.

    | variable    | shape | meaning                                                       | unit     |
    |-------------|-------|---------------------------------------------------------------|----------|
    | energy_each | (n,)  | |E − E_ref| / n_atoms                                         | meV/atom |
    | force_each  | (n,)  | mean of |F − F_ref| over components; NaN without forces       | meV/Å    |
    | force_square | (n,) | mean of (F − F_ref)²                                          | (meV/Å)² |
    """

    truth: Truth
    energy_each: Float64Array
    force_each: Float64Array
    force_square: Float64Array

    @classmethod
    def of(cls, predictions: Sequence[Labels], truth: Truth) -> Scores:
        """Compare predictions with labels.

        Raises:
            PotentialError: a prediction is NaN or inf.
        """
        energies = np.array([labels.energy for labels in predictions])
        differences = [
            None if true is None else MEV * (labels.forces - true)
            for labels, true in zip(predictions, truth.forces, strict=True)
        ]
        scores = cls(
            truth=truth,
            energy_each=MEV * np.abs(energies - truth.energies) / truth.sizes,
            force_each=np.array([np.nan if d is None else np.abs(d).mean() for d in differences]),
            force_square=np.array([np.nan if d is None else (d**2).mean() for d in differences]),
        )
        if not np.isfinite(scores.energy_each).all() or np.isinf(scores.force_each).any():
            raise PotentialError(
                "a prediction for a test frame is NaN or inf", expected="finite energies and forces"
            )
        return scores

    @cached_property
    def has_forces(self) -> np.ndarray:
        return ~np.isnan(self.force_each)

    def summary(self, members: np.ndarray | None = None) -> dict[str, float | None]:
        """MAE and RMSE over the frames (a mask; None: all); components of forces count alike."""
        chosen = np.ones(len(self.energy_each), dtype=bool) if members is None else members
        energy, forces = self.energy_each[chosen], chosen & self.has_forces
        weights = self.truth.sizes[forces]
        with_forces = bool(forces.any())
        return {
            "energy_mae": digits(energy.mean()),
            "energy_rmse": digits(np.sqrt((energy**2).mean())),
            "force_mae": digits(np.average(self.force_each[forces], weights=weights))
            if with_forces
            else None,
            "force_rmse": digits(np.sqrt(np.average(self.force_square[forces], weights=weights)))
            if with_forces
            else None,
        }

    def by(self, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """The summary of every group."""
        array = np.array(names)
        return {str(name): self.summary(array == name) for name in np.unique(array)}


def agreement(std: Float64Array, scores: Scores, seed: int) -> dict[str, float | None]:
    """Correlations of a residual std with the errors, and the coverage of 80 % intervals.

    Coverage is measured across folds of whole reactions: intervals come from the other reactions' errors.
    """
    found: dict[str, float | None] = {}
    for name, each, members in (
        ("energy", scores.energy_each, np.ones(len(std), dtype=bool)),
        ("force", scores.force_each, scores.has_forces),
    ):
        own, errors = std[members], each[members]
        varies = len(own) > 2 and np.ptp(own) > 0 and np.ptp(errors) > 0
        found[f"pearson_{name}"] = optional(pearson(own, errors))
        found[f"spearman_{name}"] = digits(spearmanr(own, errors).statistic) if varies else None
        groups = [name for name, member in zip(scores.truth.reactions, members, strict=True) if member]
        found[f"coverage_{name}"] = _coverage(own, errors, groups, seed) if varies else None
    return found


def _coverage(std: Float64Array, errors: Float64Array, groups: list[str], seed: int) -> float | None:
    if len(std) < MIN_STRUCTURES or len(set(groups)) < 3:
        return None
    fold = assign_folds(len(std), seed=seed, groups=groups)
    return digits(fit_calibration(std, errors, fold).coverage)


def digits(value: Any) -> float:
    """Five significant digits: what a file needs."""
    return float(f"{float(value):.5g}")


def optional(value: float | None) -> float | None:
    """The same, or None."""
    return None if value is None else digits(value)
