"""Any number of structures in batches that a model can take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ase import Atoms

from surveyor.potentials.base import Batch, Differentiable
from surveyor.potentials.graphs import ahead, pack
from surveyor.structures.validation import check_elements

MAX_ATOMS = 512
MAX_STRUCTURES = 64


def batches(potential: Differentiable, structures: Sequence[Atoms]) -> Iterator[tuple[list[Atoms], Batch]]:
    """Batches of bounded size, in order; the next one is made while the model computes on one.

    Raises:
        StructureError: an element is unknown; before anything is computed.
    """
    for number, atoms in enumerate(structures):
        check_elements(atoms, potential.elements, f"structure {number}")
    return ahead(pack(structures, MAX_ATOMS, MAX_STRUCTURES), potential.batch)
