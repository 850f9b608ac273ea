"""What a structure must fulfil before anything is computed with it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from matscipy.neighbours import neighbour_list
from scipy.spatial.distance import pdist, squareform

from surveyor.errors import StructureError
from surveyor.structures.identity import check_state

OVERLAP = 0.3
"""Å; no two nuclei of a real structure are closer (H2 at 0.3 Å lies 20 eV above its minimum)."""


def validate(atoms: Atoms, where: str = "structure") -> Atoms:
    """Return the structure unchanged if it can be computed.

    Args:
        where: file and frame for the message.

    Raises:
        StructureError: no atoms, an unknown element, NaN or inf in positions or cell, a periodic
            direction without a cell vector, a charge or spin that cannot be, or two atoms closer than 0.3 Å.
    """
    if len(atoms) == 0:
        raise StructureError(f"{where}: a structure without atoms", expected="at least one atom")
    if (atoms.numbers < 1).any():
        raise StructureError(
            f"{where}: atom {int(np.argmin(atoms.numbers))} is of an unknown element",
            expected="chemical symbols H to Og",
        )
    if not np.isfinite(atoms.positions).all():
        bad = int(np.argmin(np.isfinite(atoms.positions).all(axis=1)))
        raise StructureError(
            f"{where}: the position of atom {bad} is {atoms.positions[bad].tolist()}",
            expected="finite positions in Å",
            todo="take the frame out of the file, or repair it",
        )
    cell = np.asarray(atoms.cell.array)
    if not np.isfinite(cell).all():
        raise StructureError(f"{where}: the cell holds NaN or inf", expected="finite cell vectors in Å")
    if (np.linalg.norm(cell[np.asarray(atoms.pbc)], axis=1) < OVERLAP).any():
        raise StructureError(
            f"{where}: periodic along a direction without a cell vector",
            expected="a cell vector for every periodic direction, or pbc=False",
        )
    check_state(atoms, where)
    _check_overlap(atoms, where)
    return atoms


def _check_overlap(atoms: Atoms, where: str) -> None:
    if atoms.pbc.any():
        first, second, distance = neighbour_list("ijd", atoms, OVERLAP)
        close = np.flatnonzero(distance < OVERLAP)
        if len(close) == 0:
            return
        i, j, d = int(first[close[0]]), int(second[close[0]]), float(distance[close[0]])
    else:
        if len(atoms) < 2:
            return
        distances = pdist(atoms.positions)
        d = float(distances.min())
        if d >= OVERLAP:
            return
        square = squareform(distances)
        np.fill_diagonal(square, np.inf)
        i, j = (int(v) for v in np.unravel_index(int(square.argmin()), square.shape))
    raise StructureError(
        f"{where}: atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) are {d:.3f} Å apart",
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
