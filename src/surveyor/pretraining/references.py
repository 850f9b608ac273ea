"""A common zero of energy for charged and neutral frames, for a model that is not told the charge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from surveyor.pretraining.molecules import ELEMENTS
from surveyor.types import Float64Array


def charge_references(frames: Sequence[Atoms], atom_energies: Mapping[int, float]) -> dict[int, float]:
    """The constant c_q by which ions of total charge q lie above neutral molecules of their composition.

    Least squares over all frames, with one energy b_z an element:

        E − Σ_i E0(z_i) ≈ Σ_z n_z b_z + c_q,   c_0 = 0

    A model that sees no charge would have to read several eV off the surroundings of each ion: its errors for
    ions would be that large. Energies of different charge states are of no use to it, forces are; so c_q is
    taken off, and energy differences between frames of one charge stay as they are.

    | variable | shape    | unit |
    |----------|----------|------|
    | E, E0    | scalars  | eV   |
    | c_q      | scalar   | eV   |
    """
    charges = sorted({int(atoms.info["total_charge"]) for atoms in frames} - {0})
    rows = np.array([_row(atoms, charges) for atoms in frames])
    above = [atoms.info["REF_energy"] - sum(atom_energies[int(z)] for z in atoms.numbers) for atoms in frames]
    solution = np.linalg.lstsq(rows, np.array(above), rcond=None)[0]
    return {q: round(float(c), 4) for q, c in zip(charges, solution[len(ELEMENTS) :], strict=True)}


def _row(atoms: Atoms, charges: Sequence[int]) -> Float64Array:
    counts = [float((atoms.numbers == z).sum()) for z in ELEMENTS]
    return np.array(counts + [float(int(atoms.info["total_charge"]) == q) for q in charges])


def subtract_references(frames: Sequence[Atoms], references: Mapping[int, float]) -> None:
    """Take c_q off the energy of each frame, in place."""
    for atoms in frames:
        shift = references.get(int(atoms.info["total_charge"]), 0.0)
        atoms.info["REF_energy"] = round(atoms.info["REF_energy"] - shift, 8)
