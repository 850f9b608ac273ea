"""What a structure must fulfil before anything is computed with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.spatial.distance import pdist

from surveyor.errors import StructureError
from surveyor.structures.identity import check_state
from surveyor.structures.neighbours import closest_pair, heights, is_flat, shortest_translation

OVERLAP = 0.3
"""Å; no two nuclei of a real structure are closer (H2 at 0.3 Å lies 20 eV above its minimum)."""

FAR = 1e6
"""Å; positions and cell vectors beyond it are damage, not geometry."""

FEW = 200
"""Atoms of a molecule; below, all distances cost less than a tree."""


def each_structure(structures: Iterable[Atoms]) -> Iterator[Atoms]:
    """The structures, one at a time, if they are structures.

    Raises:
        StructureError: something else, or one structure alone.
    """
    if isinstance(structures, Atoms) or not isinstance(structures, Iterable):
        raise StructureError(
            f"{type(structures).__name__} where structures are expected",
            expected="a list of ase.Atoms, or the path of a file where one may be given",
            todo="put a single structure into a list: [atoms]",
        )
    return map(_structure, count(), structures)


def _structure(number: int, atoms: Atoms) -> Atoms:
    if not isinstance(atoms, Atoms):
        raise StructureError(f"structure {number}: {type(atoms).__name__}", expected="an ase.Atoms")
    return atoms


def validate(atoms: Atoms, where: str = "structure") -> Atoms:
    """Return the structure unchanged if it can be computed.

    Args:
        where: file and frame for the message.

    Raises:
        StructureError: no atoms, an unknown element, NaN, inf or more than 10⁶ Å in positions or cell, a
            periodic direction without a cell vector or parallel to another, a charge or spin that cannot be,
            or two atoms closer than 0.3 Å.
    """
    if len(atoms) == 0:
        raise StructureError(f"{where}: a structure without atoms", expected="at least one atom")
    _check_elements_exist(atoms, where)
    inside = (np.abs(atoms.positions) <= FAR).all(axis=1)  # False for NaN
    if not inside.all():
        bad = int(np.argmin(inside))
        raise StructureError(
            f"{where}: the position of atom {bad} is {atoms.positions[bad].tolist()}",
            expected=f"finite positions in Å, within {FAR:g}",
            todo="take the frame out of the file, or repair it",
        )
    check_cell(atoms, where)
    check_state(atoms, where)
    _check_overlap(atoms, where)
    return atoms


def _check_elements_exist(atoms: Atoms, where: str) -> None:
    wrong = (atoms.numbers < 1) | (atoms.numbers >= len(chemical_symbols))
    if wrong.any():
        bad = int(np.argmax(wrong))
        number = int(atoms.numbers[bad])
        what = (
            "X, a dummy or ghost atom or one without a symbol" if number == 0 else f"atomic number {number}"
        )
        raise StructureError(
            f"{where}: atom {bad} is of no element ({what})",
            expected="chemical symbols H to Og",
            todo="take dummy and ghost atoms out, or write the symbols of the elements",
        )


def check_cell(atoms: Atoms, where: str = "structure") -> None:
    """Raise StructureError unless every periodic direction has a cell vector of its own.

    Along open directions anything finite will do, zero vectors too.
    """
    cell = np.asarray(atoms.cell.array)
    if not np.isfinite(cell).all():
        raise StructureError(f"{where}: the cell holds NaN or inf", expected="finite cell vectors in Å")
    periodic = cell[np.asarray(atoms.pbc)]
    lengths = np.linalg.norm(periodic, axis=1)
    if (lengths < OVERLAP).any():
        raise StructureError(
            f"{where}: periodic along a direction without a cell vector",
            expected="a cell vector for every periodic direction, or pbc=False",
        )
    if (lengths > FAR).any():
        raise StructureError(
            f"{where}: a cell vector of {lengths.max():g} Å",
            expected=f"at most {FAR:g} Å along periodic directions",
        )
    if len(periodic) == 0:
        return
    if is_flat(periodic):
        raise StructureError(
            f"{where}: the cell vectors of the periodic directions are parallel or in one plane: "
            f"{periodic.tolist()}",
            expected="independent cell vectors along periodic directions (a cell of some volume)",
            todo="correct the cell, or set pbc=False along directions that do not repeat",
        )
    if heights(periodic).min() < OVERLAP and (shortest := shortest_translation(cell, atoms.pbc)) < OVERLAP:
        raise StructureError(
            f"{where}: atoms and their own periodic images are {shortest:.3f} Å apart",
            expected=f"no lattice translation shorter than {OVERLAP} Å",
            todo="correct the cell; check its length unit",
        )


def _check_overlap(atoms: Atoms, where: str) -> None:
    small = len(atoms) <= FEW and not atoms.pbc.any()
    if small and (len(atoms) < 2 or pdist(atoms.positions).min() >= OVERLAP):
        return
    found = closest_pair(atoms.positions, atoms.cell.array, atoms.pbc, OVERLAP)
    if found is None:
        return
    i, j, distance = found
    raise StructureError(
        f"{where}: atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) are {distance:.3f} Å apart",
        expected=f"no two atoms closer than {OVERLAP} Å",
        todo="take the frame out; check the length unit (Bohr or nm mistaken for Å?)",
    )


def check_elements(atoms: Atoms, known: Iterable[int], where: str = "structure") -> None:
    """Raise StructureError if the potential does not know one of the elements."""
    known = tuple(known)
    unknown = sorted(set(atoms.numbers.tolist()) - set(known))
    if unknown:
        raise StructureError(
            f"{where}: element {', '.join(chemical_symbols[z] for z in unknown)} is unknown to the potential",
            expected="only " + " ".join(chemical_symbols[z] for z in known),
            todo="take these frames out, or open a potential that knows the element "
            "(for example --model medium-mpa-0, or your own .model)",
        )
