"""Neighbour graphs of many structures at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list
from scipy.spatial import cKDTree

from surveyor.structures.neighbours import full_cell
from surveyor.types import Float64Array, IndexArray

Prepared = TypeVar("Prepared")

ALL_PAIRS_LIMIT = 300
"""Atoms; below, all pairs in one array operation beat a cell list per structure."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Neighbour pairs of a batch of structures, atoms numbered through.

    | variable    | shape            | meaning                                                   |
    |-------------|------------------|-----------------------------------------------------------|
    | positions   | (atoms, 3)       | Å                                                         |
    | numbers     | (atoms,)         | atomic numbers                                            |
    | edges       | (2, edges)       | sender i, receiver j                                      |
    | unit_shifts | (edges, 3)       | S in r_ij = r_j − r_i + S·cell                            |
    | shifts      | (edges, 3)       | S·cell in Å                                               |
    | cells       | (structures, 3, 3) | Å; zero where not periodic                              |
    | counts      | (structures,)    | atoms of each structure                                   |
    """

    positions: Float64Array
    numbers: IndexArray
    edges: IndexArray
    unit_shifts: Float64Array
    shifts: Float64Array
    cells: Float64Array
    counts: IndexArray


def build_graph(structures: Sequence[Atoms], cutoff: float) -> Graph:
    """All ordered pairs with |r_ij| < cutoff (Å), within each structure, periodic images included."""
    counts = np.array([len(atoms) for atoms in structures], dtype=np.intp)
    positions = np.concatenate([atoms.positions for atoms in structures])
    numbers = np.concatenate([atoms.numbers for atoms in structures]).astype(np.intp)
    periodic = [bool(atoms.pbc.any()) for atoms in structures]
    cells = np.stack(
        [atoms.cell.array if p else np.zeros((3, 3)) for atoms, p in zip(structures, periodic, strict=True)]
    )
    if max(counts) <= ALL_PAIRS_LIMIT and not any(periodic):
        edges = _all_pairs(positions, counts, cutoff)
        shifts = unit_shifts = np.zeros((edges.shape[1], 3))
    else:
        edges, unit_shifts, shifts = _cell_lists(structures, counts, cutoff)
    return Graph(positions, numbers, edges, unit_shifts, shifts, cells, counts)


def _all_pairs(positions: Float64Array, counts: IndexArray, cutoff: float) -> IndexArray:
    partners = np.repeat(counts, counts)
    first_partner = np.repeat(np.cumsum(counts) - counts, counts)
    i = np.repeat(np.arange(len(positions)), partners)
    within = np.arange(len(i)) - np.repeat(np.cumsum(partners) - partners, partners)
    j = np.repeat(first_partner, partners) + within
    vectors = positions[j] - positions[i]
    near = (np.einsum("pk,pk->p", vectors, vectors) < cutoff**2) & (i != j)
    return np.stack([i[near], j[near]])


def _cell_lists(
    structures: Sequence[Atoms], counts: IndexArray, cutoff: float
) -> tuple[IndexArray, Float64Array, Float64Array]:
    edges, unit_shifts, shifts = [], [], []
    for atoms, offset in zip(structures, np.cumsum(counts) - counts, strict=True):
        # A cell list needs three cell vectors; around a molecule most of its cells could be empty.
        if atoms.pbc.any():
            cell = full_cell(atoms.cell.array, atoms.pbc, atoms.positions, cutoff)
            i, j, images = neighbour_list(
                "ijS", positions=atoms.positions, cell=cell, pbc=atoms.pbc, cutoff=cutoff
            )
        else:
            cell = np.zeros((3, 3))
            pairs = cKDTree(atoms.positions).query_pairs(cutoff, output_type="ndarray")
            i, j = np.concatenate([pairs, pairs[:, ::-1]]).T
            images = np.zeros((len(i), 3))
        edges.append(np.stack([i, j]).astype(np.intp) + offset)
        unit_shifts.append(images.astype(np.float64))
        shifts.append(images @ cell)
    return np.concatenate(edges, axis=1), np.concatenate(unit_shifts), np.concatenate(shifts)


def pack(structures: Sequence[Atoms], max_atoms: int, max_structures: int) -> Iterator[list[Atoms]]:
    """Consecutive structures in batches of bounded size; at least one structure per batch."""
    batch: list[Atoms] = []
    atoms_in_batch = 0
    for atoms in structures:
        if batch and (len(batch) >= max_structures or atoms_in_batch + len(atoms) > max_atoms):
            yield batch
            batch, atoms_in_batch = [], 0
        batch.append(atoms)
        atoms_in_batch += len(atoms)
    if batch:
        yield batch


def ahead(
    batches: Iterable[list[Atoms]], prepare: Callable[[list[Atoms]], Prepared]
) -> Iterator[tuple[list[Atoms], Prepared]]:
    """Each batch with `prepare(batch)`, in order; a second thread makes the next while the caller uses one.

    Array operations release the interpreter's lock, so that neighbour lists cost no time beside a model on a
    GPU or on another core. One batch is prepared in advance: memory stays bounded.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="graphs") as worker:
        begun: deque[tuple[list[Atoms], Future[Prepared]]] = deque()
        for batch in batches:
            begun.append((batch, worker.submit(prepare, batch)))
            if len(begun) > 1:
                first, made = begun.popleft()
                yield first, made.result()
        for last, made in begun:
            yield last, made.result()
