"""The few structures of a batch that a result may be of, without comparing it with all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from scipy.spatial import cKDTree

from surveyor.types import Float64Array

PICKED = 6
"""Sorted distances from the centre that stand for a molecule."""

REACH = 8.0
"""A fingerprint moves by less than this many times the largest displacement of an atom: twice for a molecule,
2π plus what the cell adds for a crystal."""

_Kind = tuple[bytes, tuple[bool, ...]]


@dataclass(frozen=True, eq=False)
class _Group:
    names: list[str]
    tree: cKDTree


class Candidates:
    """The structures of a batch by elements and periodicity, and then by fingerprint.

    A fingerprint does not change when atoms are reordered, a molecule is moved or turned, or atoms of a
    crystal are moved by lattice vectors; and it moves by no more than `REACH` times what the atoms move.

    Args:
        structures: id → structure.
        tolerance: largest displacement of an atom, Å.
    """

    def __init__(self, structures: Mapping[str, Atoms], tolerance: float) -> None:
        self.structures = structures
        self.tolerance = tolerance
        kinds: dict[_Kind, list[str]] = {}
        for name, atoms in structures.items():
            kinds.setdefault(_kind(atoms), []).append(name)
        self._groups = {
            kind: _Group(names, cKDTree(np.array([fingerprint(structures[name]) for name in names])))
            for kind, names in kinds.items()
        }

    def like(self, result: Atoms) -> Iterator[tuple[str, Atoms]]:
        """The structures that the result may be of."""
        group = self._groups.get(_kind(result))
        if group is None:
            return
        # A rounding error more than the tolerance, so that what is at its edge is compared.
        radius = REACH * self.tolerance + 1e-9
        for position in sorted(group.tree.query_ball_point(fingerprint(result), radius, p=np.inf)):
            name = group.names[position]
            yield name, self.structures[name]

    def nearest(self, result: Atoms) -> tuple[str, Atoms]:
        """The structure to name where none is like the result: of the same elements, if there is one."""
        group = self._groups.get(_kind(result))
        if group is not None:
            name = group.names[int(group.tree.query(fingerprint(result), p=np.inf)[1])]
        else:
            kind = _kind(result)
            alike = [g.names[0] for (elements, _), g in self._groups.items() if elements == kind[0]]
            name = alike[0] if alike else next(iter(self.structures))
        return name, self.structures[name]


def _kind(atoms: Atoms) -> _Kind:
    return np.sort(atoms.numbers).astype("<i4").tobytes(), tuple(bool(p) for p in atoms.pbc)


def fingerprint(atoms: Atoms) -> Float64Array:
    """Six lengths (Å).

    Molecules: distances of atoms from the centre, picked evenly from all in ascending order. Periodic
    directions: h/2π times the mean over the atoms, weighted by atomic number, of cos and sin of 2πs, where s
    is the fractional coordinate and h the height of the cell along it.
    """
    if not atoms.pbc.any():
        distances = np.sort(np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0), axis=1))
        picked = np.linspace(0, len(distances) - 1, PICKED).round().astype(np.intp)
        return np.asarray(distances[picked], dtype=np.float64)
    reciprocal = np.linalg.inv(complete_cell(atoms.cell.array))  # columns; a height is 1 / length
    phases = 2 * np.pi * (atoms.positions @ reciprocal)
    weights = atoms.numbers / atoms.numbers.sum()
    heights = np.where(atoms.pbc, 1 / np.linalg.norm(reciprocal, axis=0), 0.0) / (2 * np.pi)
    return np.concatenate([heights * (weights @ np.cos(phases)), heights * (weights @ np.sin(phases))])
