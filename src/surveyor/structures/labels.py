"""Labels inside `Atoms`: the `REF_*` keys that mace-torch reads."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.stress import full_3x3_to_voigt_6_stress

from surveyor.errors import StructureError
from surveyor.structures.identity import structure_id, with_state
from surveyor.structures.real import NotRealError, real
from surveyor.types import Float64Array, Labels

ENERGY_KEY = "REF_energy"
FORCES_KEY = "REF_forces"
STRESS_KEY = "REF_stress"

MARK = "surveyor_"
"""How every key begins that Surveyor writes beside a structure or a label."""

ID_KEY = "surveyor_id"

_LABEL = re.compile(
    r"REF_.*|(?!kin|bind|form|adsor|zero|atomi[sz]|disp|err|std)"
    r"(\w+_)?(energy|energies|forces?|stress(es)?|virials?|gradients?)",
    re.IGNORECASE,
)


def has_labels(atoms: Atoms) -> bool:
    """Whether both an energy and forces are there."""
    return ENERGY_KEY in atoms.info and FORCES_KEY in atoms.arrays


def labels_of(atoms: Atoms, where: str = "structure") -> Labels:
    """The labels under the `REF_*` keys.

    Raises:
        StructureError: energy or forces are missing, no real numbers, masked, not finite, or of the wrong
            shape.
    """
    if not has_labels(atoms):
        missing = ENERGY_KEY if ENERGY_KEY not in atoms.info else FORCES_KEY
        present = sorted(map(str, [*atoms.info, *atoms.arrays]))
        raise StructureError(
            f"{where}: no {missing}; keys present: {', '.join(present)}",
            expected=f"info['{ENERGY_KEY}'] in eV and arrays['{FORCES_KEY}'] in eV/Å",
            todo="label the structure, or rename the keys of your file to REF_energy and REF_forces",
        )
    energy = numbers(atoms.info[ENERGY_KEY], (), f"{where}: {ENERGY_KEY}")
    forces = numbers(atoms.arrays[FORCES_KEY], (len(atoms), 3), f"{where}: {FORCES_KEY}")
    stress = atoms.info.get(STRESS_KEY)
    return Labels(float(energy), forces, None if stress is None else voigt(stress, f"{where}: {STRESS_KEY}"))


def voigt(stress: object, what: str) -> Float64Array:
    """(6,) in ASE's order, of six components, of nine or of (3, 3). Raises as `numbers`."""
    shape = np.array(stress, dtype=object).shape
    if shape not in ((9,), (3, 3)):
        return numbers(stress, (6,), what)
    full = numbers(stress, shape, what).reshape(3, 3)
    return np.asarray(full_3x3_to_voigt_6_stress(full), dtype=np.float64)


def numbers(value: object, shape: tuple[int, ...], what: str) -> Float64Array:
    """Finite real numbers of this shape.

    Raises:
        StructureError: they are something else.
    """
    try:
        return real(value, shape, what)
    except NotRealError as error:
        raise StructureError(
            str(error),
            expected="finite real numbers, energy in eV, forces (atoms, 3) in eV/Å, stress of six in eV/Å³",
            todo="take the frame out, or label it again",
        ) from error


def with_labels(atoms: Atoms, labels: Labels) -> Atoms:
    """A copy that carries the labels, its id, and charge and spin under the keys that mace-torch reads."""
    labelled = with_state(without_labels(atoms))
    labelled.info[ENERGY_KEY] = float(labels.energy)
    labelled.arrays[FORCES_KEY] = np.array(labels.forces, dtype=np.float64)
    if labels.stress is not None:
        labelled.info[STRESS_KEY] = np.array(labels.stress, dtype=np.float64)
    labelled.info[ID_KEY] = structure_id(atoms)
    return labelled


def without_labels(atoms: Atoms) -> Atoms:
    """A copy without labels of any name, what Surveyor wrote beside them, calculator and constraints.

    What was said of an earlier label (its doubt, its cost) says nothing about the next one.
    """
    bare = without(atoms, lambda key: key.startswith(MARK) or _is_label(key))
    bare.calc = None
    bare.set_constraint()
    return bare


def without_marks(atoms: Atoms) -> Atoms:
    """A copy without the keys that Surveyor wrote in an earlier run."""
    return without(atoms, lambda key: key.startswith(MARK))


def without(atoms: Atoms, unwanted: Callable[[str], bool]) -> Atoms:
    """A copy, with its calculator, without those keys of `info` and columns that are unwanted."""
    clean = atoms.copy()
    clean.calc = atoms.calc
    for held in (clean.info, clean.arrays):
        for key in [key for key in held if isinstance(key, str) and unwanted(key)]:
            del held[key]
    return clean


def _is_label(key: str) -> bool:
    return key in all_properties or _LABEL.fullmatch(key) is not None
