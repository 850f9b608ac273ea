"""Any number of structures in batches that a model can take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from ase import Atoms

from surveyor.potentials.base import Batch, Differentiable
from surveyor.potentials.graphs import ahead, build_graph, pack
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


def edge_batch(
    structures: Sequence[Atoms],
    elements: Sequence[int],
    types: torch.Tensor,
    cutoff: float,
    dtype: torch.dtype,
) -> Batch:
    """Atoms and pairs, for models that make the vectors of edges of positions and shifts themselves.

    | variable | shape       | meaning                                                         | unit |
    |----------|-------------|-----------------------------------------------------------------|------|
    | elements | (elements,) | atomic numbers, ascending                                       |      |
    | types    | (elements,) | the model's own number of each, on the device of the batch      |      |
    | cutoff   |             | of pairs                                                        | Å    |

    Inputs: `edges` (2, edges), `shifts` (edges, 3) in Å, `types` (atoms,); owners of `nodes` and `edges`.
    """
    graph, device = build_graph(structures, cutoff), types.device
    positions, shifts = (
        torch.as_tensor(values, dtype=dtype, device=device) for values in (graph.positions, graph.shifts)
    )
    edges = torch.as_tensor(graph.edges, dtype=torch.int64, device=device)
    species = torch.as_tensor(np.searchsorted(elements, graph.numbers), device=device)
    owner = torch.as_tensor(np.repeat(np.arange(len(structures)), graph.counts), device=device)
    inputs = {"edges": edges, "shifts": shifts, "types": types[species]}
    return Batch(inputs, positions, len(structures), species, {"nodes": owner, "edges": owner[edges[0]]})
