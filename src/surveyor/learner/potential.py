"""A potential with a linear correction in its own tangent features."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator

from surveyor.errors import PotentialError
from surveyor.features.forces import ForceTangent
from surveyor.features.probes import Probes, projections
from surveyor.learner.regression import Regression
from surveyor.learner.settings import TangentSettings
from surveyor.learner.step import along_step
from surveyor.linearised import Choose, Rows, fit
from surveyor.metrics import residuals
from surveyor.potentials.base import Differentiable, require
from surveyor.potentials.batches import batches
from surveyor.potentials.parameters import parameter_names, parameter_sizes
from surveyor.potentials.prediction import PotentialCalculator
from surveyor.structures.composition import counts, shares
from surveyor.types import Float64Array, Labels, Potential


class TangentPotential:
    """E(x) = E(x; θ) + φ(x)·w + Σ_z n_z δ_z with φ = S ∇θE, and the forces that belong to it.

    Δθ = Sᵀw is a step of the parameters that is taken to first order only: φ·w = Δθ·∇θE.

    Args:
        base: the potential that is corrected.
        regression: w and δ, and the labels that they come from.
        settings: of the tangent rows.
        extra: δ of shifts that were asked for later, eV (elements,).
        origin: what the base was opened from, as `open_potential` takes it; None: it is saved with this one.

    Raises:
        PotentialError: the base is not `Differentiable`.

    Source: arXiv 2605.03964 (tangent kernel); Rasmussen & Williams 2006, section 2.1.
    """

    family = "tangent"

    def __init__(
        self,
        base: Potential,
        regression: Regression,
        settings: TangentSettings,
        extra: Float64Array | None = None,
        *,
        origin: str | None = None,
    ) -> None:
        self.origin = origin
        self.base = require(base, Differentiable, "a tangent correction")
        self.regression = regression
        self.settings = settings
        self.extra = np.zeros(len(base.elements)) if extra is None else extra
        self.rows = force_tangent(base, settings)

    def __repr__(self) -> str:
        labels = self.regression.posterior.n_rows
        return f"TangentPotential({self.base!r} + {self.settings.dim} columns from {labels} labelled rows)"

    @property
    def elements(self) -> tuple[int, ...]:
        return self.base.elements

    @property
    def device(self) -> torch.device:
        return self.base.device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the base's fingerprint, the sketch, w and δ."""
        digest = hashlib.sha256(f"tangent|{self.base.fingerprint}|{self.settings}".encode())
        digest.update(self.regression.weights.tobytes() + self.shifts.tobytes())
        return digest.hexdigest()

    @property
    def shifts(self) -> Float64Array:
        """δ of every element, eV (elements,)."""
        return self.regression.shifts + self.extra

    @cached_property
    def step(self) -> dict[str, torch.Tensor]:
        """Δθ = Sᵀw, by parameter."""
        names = parameter_names(self.base.model, self.settings.parameters)
        whole = self.rows.tangent.sketch.transpose(torch.as_tensor(self.regression.weights))
        parts = torch.split(whole, parameter_sizes(self.base.model, names))
        parameters = dict(self.base.model.named_parameters())
        return {
            name: part.reshape(parameters[name].shape).to(parameters[name])
            for name, part in zip(names, parts, strict=True)
        }

    # ---- prediction -------------------------------------------------------------------------------

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        """Energies (eV) and forces (eV/Å), in order; no stresses.

        Raises:
            PotentialError: a prediction is NaN or inf.
            StructureError: an element is unknown.
        """
        found: list[Labels] = []
        for part, batch in batches(self.base, structures):
            moved = along_step(self.base, batch, self.step)
            energies = _numbers(moved.energies) + _numbers(moved.energy_changes)
            energies += counts(part, self.elements) @ self.shifts
            ends = np.cumsum([len(atoms) for atoms in part])[:-1]
            forces = np.split(_numbers(moved.forces) + _numbers(moved.force_changes), ends)
            for energy, own in zip(energies.tolist(), forces, strict=True):
                if not (np.isfinite(energy) and np.isfinite(own).all()):
                    raise PotentialError(
                        "the corrected potential predicts NaN or inf",
                        expected="finite energies and forces",
                        todo="look for atoms nearly on top of each other",
                    )
                found.append(Labels(energy, own))
        return found

    def calculator(self) -> Calculator:
        """An ASE calculator; energies are conserved, as forces are their exact gradients."""
        return PotentialCalculator(self)

    def std(self, structures: Sequence[Atoms]) -> tuple[Float64Array, list[Float64Array]]:
        """Standard deviations of energies, eV (structures,), and of forces, eV/Å, (n, 3) each.

        What the labels leave open of the correction; the forces take one backward pass per component.
        """
        energies = self.rows.tangent(structures)
        every = force_tangent(self.base, self.settings, "all")(structures)
        own = self.regression.std(energies.values, counts(structures, self.elements))
        flat = self.regression.std(every.values)
        ends = np.cumsum([3 * len(atoms) for atoms in structures])[:-1]
        return own, [part.reshape(-1, 3) for part in np.split(flat, ends)]

    # ---- what else it can be ----------------------------------------------------------------------

    def with_labels(self, structures: Sequence[Atoms], *, forces: bool = True) -> TangentPotential:
        """The potential after more labels, in closed form; λ and the weight of energies stay.

        Raises:
            StructureError: a structure has no labels, or an unknown element.
        """
        rows = labelled_rows(self.rows, structures, forces=forces)
        more = self.regression.add(rows)
        return TangentPotential(self.base, more, self.settings, self.extra, origin=self.origin)

    def with_reference_shifts(self, shifts: Mapping[int, float]) -> TangentPotential:
        """A copy whose energies have so many eV more for each atom of the elements; the same forces."""
        more = np.array([shifts.get(z, 0.0) for z in self.elements])
        extra = self.extra + more
        return TangentPotential(self.base, self.regression, self.settings, extra, origin=self.origin)

    def save(self, path: str | Path) -> None:
        """Write w, δ and their posterior as arrays, and the base beside it where its file is not known."""
        from surveyor.learner.opening import save

        save(self, Path(path))


def fit_tangent(
    base: Potential,
    structures: Sequence[Atoms],
    settings: TangentSettings | None = None,
    *,
    forces: bool = True,
    choose: Choose = "loo",
    noise: float | None = None,
    origin: str | None = None,
) -> TangentPotential:
    """The correction that labelled structures teach; λ and the weight of energies come from the labels.

    Args:
        forces: learn from forces too.
        choose: how λ and the weight are chosen; see `surveyor.linearised.fit`.
        noise: λ as a share of the rows' mean squared norm, where it shall not be chosen.
        origin: what the base was opened from; see `TangentPotential`.

    Raises:
        PotentialError: the base is not `Differentiable`.
        StructureError: a structure has no labels, or an unknown element.
        FeatureError: no structures.
    """
    settings = settings or TangentSettings()
    rows = labelled_rows(force_tangent(base, settings), structures, forces=forces)
    return correction(base, rows, settings, choose=choose, noise=noise, origin=origin)


def correction(
    base: Potential,
    rows: Rows,
    settings: TangentSettings,
    *,
    choose: Choose = "loo",
    noise: float | None = None,
    energy_weight: float | None = None,
    origin: str | None = None,
) -> TangentPotential:
    """The correction that rows teach; see `fit_tangent` and `surveyor.linearised.fit`."""
    found = fit(rows, choose=choose, noise=noise, energy_weight=energy_weight)
    blank = Regression.blank(
        settings.dim, len(base.elements), noise=found.noise, energy_weight=found.energy_weight
    )
    return TangentPotential(base, blank.add(rows), settings, origin=origin)


def force_tangent(base: Potential, settings: TangentSettings, probes: Probes | None = None) -> ForceTangent:
    """The tangent rows of a correction; other probes than those of the settings where they are given.

    Raises:
        PotentialError: the base is not `Differentiable`.
    """
    potential = require(base, Differentiable, "a tangent correction")
    return ForceTangent(
        potential, probes or settings.probes, settings.dim, settings.seed, parameters=settings.parameters
    )


def labelled_rows(features: ForceTangent, structures: Sequence[Atoms], *, forces: bool = True) -> Rows:
    """What labels lack of the potential's own predictions, with the tangent rows that shall explain it.

    Energies count per atom.

    Raises:
        StructureError: a structure has no labels, or an unknown element.
    """
    potential = features.tangent.potential
    lacking, off = residuals(potential, structures)
    sizes = np.array([len(atoms) for atoms in structures], dtype=np.float64)
    rows = Rows(
        energy=features.tangent(structures).values.astype(np.float64) / sizes[:, None],
        energy_residual=lacking,
        composition=shares(structures, potential.elements),
        forces=np.zeros((0, features.dim)),
        force_residual=np.zeros(0),
        owner=np.zeros(0, dtype=np.intp),
    )
    if not forces:
        return rows
    found = features(structures)
    return replace(
        rows,
        forces=found.values.astype(np.float64),
        force_residual=projections(off, features.probes, features.tangent.seed),
        owner=found.owner,
    )


def _numbers(values: torch.Tensor) -> Float64Array:
    found: Float64Array = values.cpu().double().numpy()
    return found
