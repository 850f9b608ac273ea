"""Structures of like size side by side, and results back in the order of the question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from ase import Atoms

from surveyor.types import Float64Array, IndexArray

ModelInput = dict[str, torch.Tensor]
"""What a model's forward pass takes for a batch of structures."""


def in_batches(
    structures: Sequence[Atoms],
    graphs: Callable[[Sequence[Atoms]], Iterator[tuple[list[Atoms], ModelInput]]],
    rows_of: Callable[[list[Atoms], ModelInput], list[Float64Array]],
) -> list[Float64Array]:
    """Rows of each structure, computed batch by batch.

    Structures are sorted by size first: sums over the atoms of each structure are padded to the largest.

    Args:
        structures: any order.
        graphs: splits a sequence into batches of bounded size, in order, each with the model's input.
        rows_of: the rows (rows, dim) of each structure of a batch.
    """
    order: IndexArray = np.argsort([len(atoms) for atoms in structures], kind="stable")
    found: list[Float64Array] = [np.empty(0)] * len(structures)
    done = 0
    for batch, graph in graphs([structures[i] for i in order]):
        for rows in rows_of(batch, graph):
            found[order[done]] = rows
            done += 1
    return found
