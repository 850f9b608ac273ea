"""The label in a frame of somebody's results: which of its numbers are one, and which a reader made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list

from surveyor.errors import StructureError
from surveyor.labelling.rigid import NOISE, SHARE, net_and_total
from surveyor.structures.labels import ENERGY_KEY, FORCES_KEY, STRESS_KEY, has_labels, numbers, voigt
from surveyor.types import Float64Array, Labels

NO_ENERGY = {
    "lammps-dump-text": "a LAMMPS dump holds no energy",
    "lammps-dump-binary": "a LAMMPS dump holds no energy",
}
"""Formats in which ASE's reader makes up the energy (0.0), and why it is none."""

ONE_FRAME = {
    "vasp-xml": "VASP never turns or reorders; both arrays of a step follow each other",
    "vasp-out": "VASP prints position and force of an atom in one row",
    "espresso-out": "Quantum ESPRESSO keeps the frame and the order of its input",
    "castep-castep": "CASTEP keeps one frame and one order",
    "castep-geom": "CASTEP writes positions and forces of a step under the same labels of atoms",
    "castep-md": "CASTEP writes positions and forces of a step under the same labels of atoms",
    "aims-output": "FHI-aims keeps the frame and the order of geometry.in",
    "gpaw-out": "GPAW keeps the frame and the order of the Atoms object",
    "abinit-out": "ABINIT keeps one frame and one order",
    "abinit-gsr": "ABINIT keeps one frame and one order",
    "onetep-out": "ONETEP keeps one frame and one order",
    "qbox": "Qbox writes position and force of an atom in one element",
    "turbomole-gradient": "the file `gradient` holds the coordinates that its gradients are of",
    "nwchem-out": "NWChem prints coordinates and gradient of an atom in one row",
    "orca-output": "ORCA keeps the frame and the order of its input",
}
"""Formats whose positions and forces stand in one frame and one order for certain, and why.

Not Gaussian, GAMESS and Q-Chem, which print forces in the input orientation and positions in a standard one
too; not extended xyz, traj, json and db, which anybody may have put together.
"""

EXTRAPOLATED = {"gpaw-out"}
"""Formats of which ASE reads only the energy extrapolated to zero smearing."""

FREE_ENERGY_DIFFERS = 1e-6
"""eV; energies that differ by more are two."""

FREE, ZERO = "free energy", "extrapolated to zero smearing"

NEAR = 4.0
"""Å; neighbours that decide whether symmetry forbids a force."""

LOPSIDED = 5e-3
"""As a share of the neighbours' weights; an atom with more has no symmetry that forbids a force."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure among the results, as plain as a reader gave it, without a calculator.

    The results are what ASE's reader of this format attached: energy, free_energy, forces, stress;
    `unconverged` says why the program says that this is no result.
    """

    where: str
    atoms: Atoms
    results: dict[str, Any] = field(default_factory=dict)
    format: str = ""
    unconverged: str = ""


def labels_in(frame: Frame) -> tuple[Labels, str]:
    """Labels under the `REF_*` keys, or those that ASE's reader attaches.

    With smearing, programs print several energies; the label's is the free energy, whose gradient the forces
    are, where the reader gives it.

    Returns:
        The labels, and which energy was taken where there was a choice.

    Raises:
        StructureError: energy or forces are missing, made up, not finite, of the wrong shape or no numbers,
            or the calculation did not converge.
    """
    where, atoms = frame.where, frame.atoms
    if frame.unconverged:
        raise StructureError(f"{where}: not converged: {frame.unconverged}")
    if reason := _flagged(atoms.info):
        raise StructureError(f"{where}: not converged: {reason}")
    kind = ""
    if has_labels(atoms):
        energy, forces = atoms.info[ENERGY_KEY], atoms.arrays[FORCES_KEY]
        stress = atoms.info.get(STRESS_KEY)
    else:
        energy, kind = _energy(frame)
        forces, stress = frame.results.get("forces"), frame.results.get("stress")
        stress = stress if atoms.pbc.all() else None
        if lacking := [name for name, value in (("energy", energy), ("forces", forces)) if value is None]:
            why = NO_ENERGY.get(frame.format, "")
            raise StructureError(f"{where}: no {' and no '.join(lacking)}" + (f": {why}" if why else ""))
    value = float(numbers(energy, (), f"{where}: energy"))
    found = numbers(forces, (len(atoms), 3), f"{where}: forces")
    if value == 0 and found.any():
        raise StructureError(
            f"{where}: an energy of exactly 0.0 beside forces that are not zero: a placeholder, no energy"
        )
    six = None if stress is None else voigt(stress, f"{where}: stress")
    return Labels(value, found, six, free_energy=kind == FREE), kind


def _energy(frame: Frame) -> tuple[Any, str]:
    """The energy that belongs to the forces, and which it is where there was a choice."""
    if frame.format in NO_ENERGY:
        return None, ""
    energy, free = frame.results.get("energy"), frame.results.get("free_energy")
    if free is None or (isinstance(free, float) and not np.isfinite(free)):
        return energy, ZERO if frame.format in EXTRAPOLATED else ""
    if energy is None:
        return free, ""
    both = [numbers(value, (), f"{frame.where}: energy") for value in (free, energy)]
    return (free, FREE) if abs(both[0] - both[1]) > FREE_ENERGY_DIFFERS else (energy, "")


def _flagged(info: dict[str, Any]) -> str:
    """What a frame says of itself, as in `converged=F`, or empty."""
    for key, value in info.items():
        name = str(key).lower()
        if "converged" not in name or not isinstance(value, bool | int | float | str | np.generic):
            continue
        no = str(value).strip().lower() in ("false", "f", "0", "0.0", "no", ".false.")
        yes = str(value).strip().lower() in ("true", "t", "1", "1.0", "yes", ".true.")
        negated = "unconverged" in name or "not_converged" in name or "notconverged" in name
        if (yes and negated) or (no and not negated):
            return f"it says {key}={value}"
    return ""


def zeroed(atoms: Atoms, forces: Float64Array) -> str:
    """Why forces of exactly zero are no forces, or empty.

    Symmetry makes forces vanish, chance does not: an atom whose neighbours all stand on one side feels one.
    """
    still = ~forces.any(axis=1)
    if not still.any() or len(atoms) == 1:
        return ""
    if still.all():
        lopsided = _lopsided(atoms)
        if lopsided.max() > LOPSIDED:
            return "all forces are exactly zero, though no symmetry forbids them"
        return ""
    net, total = net_and_total(forces)
    if atoms.pbc.any() and net > NOISE * (len(atoms) + 1) + SHARE * total and _lopsided(atoms)[still].any():
        return (
            f"forces of {int(still.sum())} atoms are exactly zero and the others leave a net force of "
            f"{net:.3g} eV/Å: were these atoms fixed?"
        )
    return ""


def _lopsided(atoms: Atoms) -> Float64Array:
    """(n,) |Σ_j w r̂| / Σ_j w over neighbours, w = Z exp(−r / Å); 0 where there are none."""
    boxed = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if not atoms.pbc.any():
        boxed.set_cell(np.ptp(atoms.positions, axis=0) + 2 * NEAR)
        boxed.positions += NEAR - atoms.positions.min(axis=0)
    first, second, vectors, lengths = neighbour_list("ijDd", boxed, NEAR)
    weights = atoms.numbers[second] * np.exp(-lengths)
    pulls = np.zeros((len(atoms), 3))
    np.add.at(pulls, first, (weights / lengths)[:, None] * vectors)
    sums = np.bincount(first, weights, minlength=len(atoms))
    return np.asarray(np.linalg.norm(pulls, axis=1) / np.where(sums > 0, sums, 1.0), dtype=np.float64)
