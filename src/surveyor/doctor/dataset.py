"""A file of structures as the checks see it: nothing raises, whatever stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from ase import Atoms

from surveyor.errors import StructureError
from surveyor.structures.identity import CHARGE_KEYS, SPIN_KEYS, structure_id
from surveyor.structures.label_keys import likely
from surveyor.structures.reading import read_structures
from surveyor.structures.validation import validate
from surveyor.types import Float64Array

MAX_FRAMES = 100_000
"""Frames that are looked at; the first ones of a longer file."""

GROUP_KEYS = ("trajectory", "traj", "traj_id", "reaction", "rxn", "mol_id", "molecule", "smiles")
"""Keys of `info` that name what a frame belongs to, the narrowest first."""


class Role(StrEnum):
    """What a file is for; it decides how bad a missing label is."""

    DATA = "data"
    START = "start"
    TEST = "test"
    POOL = "pool"
    TARGET = "target"

    @property
    def needs_labels(self) -> bool:
        return self in (Role.START, Role.TEST)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Frames with the labels that were found in them, under whatever name.

    | variable     | shape        | meaning                                                        |
    |--------------|--------------|----------------------------------------------------------------|
    | structures   | (n,)         | as read, not validated                                         |
    | energy       | (n,)         | number under `energy_name`; NaN where there is none            |
    | energy_name  | (n,)         | key of the energy, None where there is none                    |
    | forces       | (n,)         | array under `forces_name`, None where there is none            |
    | forces_name  | (n,)         | key of the forces, None where there is none                    |
    | stress       | (n,)         | components under `stress_name`, flat; None where there is none |
    | stress_name  | (n,)         | key of the stress, None where there is none                    |
    | complete     |              | False where the file is longer than was read                   |
    """

    name: str
    role: Role
    structures: Sequence[Atoms]
    energy: Float64Array
    energy_name: tuple[str | None, ...]
    forces: tuple[Float64Array | None, ...]
    forces_name: tuple[str | None, ...]
    stress: tuple[Float64Array | None, ...] = ()
    stress_name: tuple[str | None, ...] = ()
    complete: bool = True

    def __len__(self) -> int:
        return len(self.structures)

    @cached_property
    def has_labels(self) -> bool:
        """Whether there is any energy or force that is to be taken as a label."""
        if self.role in (Role.POOL, Role.TARGET):
            return False
        return any(name is not None for name in (*self.energy_name, *self.forces_name))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Content hash of each frame; empty text where it has none (NaN, a charge that is no number)."""
        return tuple(_id_or_nothing(atoms) for atoms in self.structures)

    @cached_property
    def faults(self) -> dict[int, str]:
        """Frame → why nothing can be computed with its geometry."""
        found = {}
        for number, atoms in enumerate(self.structures):
            try:
                validate(atoms, f"frame {number}")
            except StructureError as fault:
                found[number] = fault.got
        return found

    @cached_property
    def sound(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(n,) whether the geometry is sound."""
        mask = np.ones(len(self), dtype=bool)
        mask[list(self.faults)] = False
        return mask

    @cached_property
    def labelled(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(n,) whether geometry, energy and forces are all there, finite and of the right shape."""
        return np.array(
            [
                bool(self.sound[i])
                and bool(np.isfinite(self.energy[i]))
                and forces is not None
                and forces.shape == (len(self.structures[i]), 3)
                and bool(np.isfinite(forces).all())
                for i, forces in enumerate(self.forces)
            ],
            dtype=bool,
        )

    @cached_property
    def composition(self) -> tuple[tuple[str, ...], ...]:
        """(formula, charge, spin) of each frame, as far as they are stated."""
        return tuple(
            (
                atoms.get_chemical_formula(),
                str(next((atoms.info[key] for key in CHARGE_KEYS if key in atoms.info), 0)),
                str(next((atoms.info[key] for key in SPIN_KEYS if key in atoms.info), "")),
            )
            for atoms in self.structures
        )

    @cached_property
    def group_key(self) -> str | None:
        """The key that names reaction or trajectory, where every frame has it."""
        for key in GROUP_KEYS:
            if all(key in atoms.info for atoms in self.structures):
                return key
        return None

    def groups(self, key: str, *, kind: bool = False) -> tuple[str, ...]:
        """What each frame belongs to under a key, if wanted together with its `config_type`."""
        return tuple(
            f"{atoms.info.get(key)} / {atoms.info.get('config_type', '')}"
            if kind
            else str(atoms.info.get(key))
            for atoms in self.structures
        )


def read_dataset(path: Path, role: Role) -> Dataset:
    """Read a file without judging it.

    Raises:
        StructureError: the file cannot be read at all.
    """
    frames = read_structures(path, check=False)
    structures = list(islice(frames, MAX_FRAMES))
    return dataset_of(path.name, structures, role, complete=next(frames, None) is None)


def dataset_of(name: str, structures: Sequence[Atoms], role: Role, *, complete: bool = True) -> Dataset:
    """Structures with the labels that are found in them."""
    energies, forces, stresses = (
        [_first(atoms, what) for atoms in structures] for what in ("energy", "forces", "stress")
    )
    return Dataset(
        name=name,
        role=role,
        structures=structures,
        energy=np.array([_scalar(value) for _, value in energies], dtype=np.float64),
        energy_name=tuple(key for key, _ in energies),
        forces=tuple(value for _, value in forces),
        forces_name=tuple(key for key, _ in forces),
        stress=tuple(None if value is None else value.ravel() for _, value in stresses),
        stress_name=tuple(key for key, _ in stresses),
        complete=complete,
    )


def _id_or_nothing(atoms: Atoms) -> str:
    try:
        return structure_id(atoms)
    except StructureError:
        return ""


def _first(atoms: Atoms, what: str) -> tuple[str | None, Float64Array | None]:
    """Key and numbers of the likeliest label of a kind; NaN where these are none."""
    for key, value in likely(atoms, what):
        try:
            return key, np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            return key, np.full((len(atoms), 3) if what == "forces" else 6, np.nan)
    return None, None


def _scalar(value: Float64Array | None) -> float:
    return float("nan") if value is None or value.size != 1 else float(value.item())
