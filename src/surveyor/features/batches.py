"""Structures of like size side by side, and results back in the order of the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms

from surveyor.potentials.base import Batch, Differentiable
from surveyor.potentials.batches import batches
from surveyor.types import Float64Array, IndexArray


def in_batches(
    structures: Sequence[Atoms],
    potential: Differentiable,
    rows_of: Callable[[list[Atoms], Batch], list[Float64Array]],
) -> list[Float64Array]:
    """Rows of each structure, computed batch by batch.

    Structures are sorted by size first: sums over the atoms of each structure are padded to the largest.

    Args:
        structures: any order.
        potential: makes the batches.
        rows_of: the rows (rows, dim) of each structure of a batch.
    """
    order: IndexArray = np.argsort([len(atoms) for atoms in structures], kind="stable")
    found: list[Float64Array] = [np.empty(0)] * len(structures)
    done = 0
    for part, batch in batches(potential, [structures[i] for i in order]):
        for rows in rows_of(part, batch):
            found[order[done]] = rows
            done += 1
    return found
