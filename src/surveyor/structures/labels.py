"""Labels inside `Atoms`: the `REF_*` keys that mace-torch reads."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from surveyor.errors import StructureError
from surveyor.types import Float64Array, Labels

ENERGY_KEY = "REF_energy"
FORCES_KEY = "REF_forces"
STRESS_KEY = "REF_stress"


def has_labels(atoms: Atoms) -> bool:
    """Whether both an energy and forces are there."""
    return ENERGY_KEY in atoms.info and FORCES_KEY in atoms.arrays


def labels_of(atoms: Atoms, where: str = "structure") -> Labels:
    """The labels under the `REF_*` keys.

    Raises:
        StructureError: energy or forces are missing, not finite, or of the wrong shape.
    """
    if not has_labels(atoms):
        missing = ENERGY_KEY if ENERGY_KEY not in atoms.info else FORCES_KEY
        present = sorted([*atoms.info, *atoms.arrays])
        raise StructureError(
            f"{where}: no {missing}; keys present: {', '.join(present)}",
            expected=f"info['{ENERGY_KEY}'] in eV and arrays['{FORCES_KEY}'] in eV/Å",
            todo="label the structure, or rename the keys of your file to REF_energy and REF_forces",
        )
    energy = float(atoms.info[ENERGY_KEY])
    forces = np.asarray(atoms.arrays[FORCES_KEY], dtype=np.float64)
    if forces.shape != (len(atoms), 3):
        raise StructureError(f"{where}: forces of shape {forces.shape}", expected=f"({len(atoms)}, 3)")
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise StructureError(
            f"{where}: the label holds NaN or inf",
            expected="finite energy and forces",
            todo="take the frame out, or label it again",
        )
    return Labels(energy=energy, forces=forces, stress=_stress_of(atoms, where))


def _stress_of(atoms: Atoms, where: str) -> Float64Array | None:
    if STRESS_KEY not in atoms.info:
        return None
    stress = np.asarray(atoms.info[STRESS_KEY], dtype=np.float64)
    if stress.size == 9:
        stress = full_3x3_to_voigt_6_stress(stress.reshape(3, 3))
    if stress.shape != (6,) or not np.isfinite(stress).all():
        raise StructureError(
            f"{where}: stress of shape {stress.shape} or not finite",
            expected="six finite components in ASE's Voigt order (xx, yy, zz, yz, xz, xy), eV/Å³",
        )
    return stress


def with_labels(atoms: Atoms, labels: Labels) -> Atoms:
    """A copy that carries the labels, and no calculator."""
    labelled = without_labels(atoms)
    labelled.info[ENERGY_KEY] = float(labels.energy)
    labelled.arrays[FORCES_KEY] = np.array(labels.forces, dtype=np.float64)
    if labels.stress is not None:
        labelled.info[STRESS_KEY] = np.array(labels.stress, dtype=np.float64)
    return labelled


def without_labels(atoms: Atoms) -> Atoms:
    """A copy without labels and calculator."""
    bare = atoms.copy()
    bare.calc = None
    for key in (ENERGY_KEY, STRESS_KEY):
        bare.info.pop(key, None)
    bare.arrays.pop(FORCES_KEY, None)
    return bare
