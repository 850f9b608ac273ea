"""Parts that most families of torch models can share: predictions, a calculator, a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from surveyor.errors import PotentialError
from surveyor.potentials.base import Differentiable
from surveyor.potentials.batches import batches
from surveyor.potentials.gradients import gradients_of
from surveyor.types import Float64Array, Labels, Potential


def predictions(potential: Differentiable, structures: Sequence[Atoms]) -> list[Labels]:
    """Energies (eV), and forces (eV/Å) as their negative gradients, in order.

    Raises:
        PotentialError: a prediction is NaN or inf.
        StructureError: an element is unknown.
    """
    found: list[Labels] = []
    for part, batch in batches(potential, structures):
        positions = batch.positions.requires_grad_(True)
        energies = potential.energies(batch)
        slope = gradients_of(energies.sum(), [positions])[0]
        forces = torch.zeros_like(positions) if slope is None else -slope
        found += labels_of_batch(f"the {potential.family} potential", part, energies, forces)
    return found


def labels_of_batch(
    name: str,
    structures: Sequence[Atoms],
    energies: torch.Tensor,
    forces: torch.Tensor,
    stresses: torch.Tensor | None = None,
) -> list[Labels]:
    """Tensors of a batch, (count,), (atoms, 3) and perhaps (count, 3, 3), as the labels of its structures.

    Raises:
        PotentialError: an energy or a force is NaN or inf; naming the potential.
    """
    energy, whole = (values.detach().cpu().double().numpy() for values in (energies, forces))
    if not (np.isfinite(energy).all() and np.isfinite(whole).all()):
        raise PotentialError(
            f"{name} predicts NaN or inf for one of {len(structures)} structures",
            expected="finite energies and forces",
            todo="look for atoms nearly on top of each other, or train with a smaller learning rate",
        )
    each = np.split(whole, np.cumsum([len(atoms) for atoms in structures])[:-1])
    voigt: list[Float64Array | None] = [None] * len(structures)
    if stresses is not None:
        voigt = [full_3x3_to_voigt_6_stress(full) for full in stresses.detach().cpu().double().numpy()]
    return [Labels(*parts) for parts in zip(energy.tolist(), each, voigt, strict=True)]


class PotentialCalculator(Calculator):  # type: ignore[misc]
    """ASE's calculator around `predict`."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        (labels,) = self.potential.predict([self.atoms])
        self.results = {"energy": labels.energy, "free_energy": labels.energy, "forces": labels.forces}


def fingerprint_of(model: torch.nn.Module, *settings: str) -> str:
    """SHA-256 of the class, of settings that the weights do not hold, and of every parameter and buffer."""
    digest = hashlib.sha256("|".join([type(model).__name__, *settings]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
