"""Structures for the tests; imports nothing heavy, so that test processes can use it."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import molecule


def rattled(n: int, seed: int, names: tuple[str, ...] = ("H2O", "NH3", "CH4", "CH3OH")) -> list[Atoms]:
    """Small molecules, each displaced at random by about 0.1 Å."""
    rng = np.random.default_rng(seed)
    structures = []
    for number in range(n):
        atoms = molecule(names[number % len(names)])
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        atoms.info["reaction"] = names[number % len(names)]
        structures.append(atoms)
    return structures
