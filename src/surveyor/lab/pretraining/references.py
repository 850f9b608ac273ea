"""A common zero of energy for charged and neutral frames, for a model that is not told the charge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from surveyor.lab.pretraining.molecules import ELEMENTS
from surveyor.regression import least_squares
from surveyor.structures.composition import counts
from surveyor.types import Potential


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
    of_charge = [[float(int(atoms.info["total_charge"]) == q) for q in charges] for atoms in frames]
    rows = np.hstack([counts(frames, ELEMENTS), np.array(of_charge).reshape(len(frames), len(charges))])
    above = [atoms.info["REF_energy"] - sum(atom_energies[int(z)] for z in atoms.numbers) for atoms in frames]
    solution = least_squares(rows, np.array(above), cutoff=None)
    return {q: round(float(c), 4) for q, c in zip(charges, solution[len(ELEMENTS) :], strict=True)}


def references_of_start(frames: Sequence[Atoms], start: Potential) -> dict[int, float]:
    """The constant c_q for a training that goes on from a potential: its own median error for charge q.

        c_q = median over the frames of charge q of (E − Ê)

    Composition alone (`charge_references`) misses what bonds an ion lacks, and a model that is held to E0 for
    isolated atoms cannot make good a constant that is off. The start's errors show by how much it is. The
    median, as energies are trained by their absolute errors.

    | variable | meaning                           | unit |
    |----------|-----------------------------------|------|
    | E        | labelled energy of a frame        | eV   |
    | Ê        | energy of the start for the frame | eV   |
    | c_q      | taken off the frames of charge q  | eV   |
    """
    charged = [atoms for atoms in frames if int(atoms.info["total_charge"])]
    charges = np.array([int(atoms.info["total_charge"]) for atoms in charged])
    errors = np.array(
        [
            atoms.info["REF_energy"] - labels.energy
            for atoms, labels in zip(charged, start.predict(charged), strict=True)
        ]
    )
    return {int(q): round(float(np.median(errors[charges == q])), 4) for q in np.unique(charges)}


def subtract_references(frames: Sequence[Atoms], references: Mapping[int, float]) -> None:
    """Take c_q off the energy of each frame, in place."""
    for atoms in frames:
        shift = references.get(int(atoms.info["total_charge"]), 0.0)
        atoms.info["REF_energy"] = round(atoms.info["REF_energy"] - shift, 8)
