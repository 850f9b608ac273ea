"""Is it the same structure, up to how a program prints and orders atoms?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from surveyor.structures.neighbours import images
from surveyor.types import Float64Array, IndexArray

LOOK = 3.0
"""Å; how far the place of an atom is looked for where structures differ."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Outcome of `compare`.

    | field  | shape        | meaning                                                              | unit |
    |--------|--------------|----------------------------------------------------------------------|------|
    | order  | (n_atoms,)   | atom i of the reference is atom order[i] of the other; None: differ  |      |
    | offset | scalar       | largest displacement of an atom; where they differ, the largest      | Å    |
    |        |              | distance to the nearest atom of its element; inf where elements or   |      |
    |        |              | cell differ, or nothing is within 3 Å                                |      |
    | reason |              | why they differ, or empty                                            |      |
    """

    order: IndexArray | None
    offset: float
    reason: str = ""


def compare(reference: Atoms, other: Atoms, tolerance: float) -> Comparison:
    """Match the atoms of two structures in place: no shift, no rotation; lattice translations count as none.

    Args:
        tolerance: largest displacement of an atom, Å.
    """
    if len(other) != len(reference):
        return Comparison(None, np.inf, f"{len(other)} atoms, not {len(reference)}")
    if (np.sort(other.numbers) != np.sort(reference.numbers)).any():
        return Comparison(None, np.inf, f"{other.symbols}, not {reference.symbols}")
    if (np.asarray(reference.pbc) != np.asarray(other.pbc)).any():
        return Comparison(None, np.inf, f"periodic {other.pbc.tolist()}, not {reference.pbc.tolist()}")
    cell_offset = np.abs((reference.cell.array - other.cell.array)[np.asarray(reference.pbc)])
    if cell_offset.size and cell_offset.max() > tolerance:
        return Comparison(None, np.inf, f"cell vectors differ by {cell_offset.max():.4f} Å")
    if (other.numbers == reference.numbers).all():
        offset = _offset(reference, other.positions)
        if offset <= tolerance:
            return Comparison(np.arange(len(reference), dtype=np.intp), offset)
    order = _assignment(reference, other, tolerance)
    if order is not None:
        return Comparison(order, _offset(reference, other.positions[order]))
    offset = _farthest(reference, other)
    if offset <= tolerance:  # every place has an atom near it, but not each one of its own
        return Comparison(None, np.inf, "several atoms are at one place")
    far = f"up to {offset:.4f} Å" if np.isfinite(offset) else f"more than {LOOK:g} Å"
    return Comparison(None, offset, f"atoms are {far} from their places")


def _offset(reference: Atoms, positions: Float64Array) -> float:
    _, lengths = find_mic(positions - reference.positions, reference.cell, reference.pbc)
    return float(lengths.max())


def _by_element(
    reference: Atoms, other: Atoms, radius: float
) -> tuple[Float64Array, Float64Array, IndexArray]:
    """Places of both structures, elements kept apart by a fourth coordinate, and the atom that each is of."""
    first, _ = images(reference.positions, reference.cell.array, reference.pbc, 0.0)
    second, owner = images(other.positions, reference.cell.array, reference.pbc, radius)
    apart = 4.0 * radius
    return (
        np.column_stack([first[: len(reference)], apart * reference.numbers]),
        np.column_stack([second, apart * other.numbers[owner]]),
        owner,
    )


def _assignment(reference: Atoms, other: Atoms, tolerance: float) -> IndexArray | None:
    """The order of least total squared displacement in which every atom meets its own element in reach.

    Only pairs within the tolerance are candidates: as many as there are atoms, not their square. None where
    they leave an atom without a partner.
    """
    n = len(reference)
    places, others, owner = _by_element(reference, other, tolerance)
    near = cKDTree(places).sparse_distance_matrix(cKDTree(others), tolerance, output_type="ndarray")
    order = np.lexsort((near["v"], owner[near["j"]], near["i"]))
    i, j, lengths = near["i"][order], owner[near["j"][order]], near["v"][order]
    nearest = np.ones(len(i), dtype=bool)  # of several images of one atom
    nearest[1:] = (i[1:] != i[:-1]) | (j[1:] != j[:-1])
    i, j, lengths = i[nearest], j[nearest], lengths[nearest]
    if len(np.unique(i)) < n or len(np.unique(j)) < n:
        return None
    # A sparse matrix has no zeros; 1 more for every pair does not change the order of assignments.
    cost = coo_array((1 + (lengths / max(tolerance, 1e-300)) ** 2, (i, j)), shape=(n, n)).tocsr()
    try:
        return np.asarray(min_weight_full_bipartite_matching(cost)[1], dtype=np.intp)
    except ValueError:  # no order gives every atom a partner
        return None


def _farthest(reference: Atoms, other: Atoms) -> float:
    """The largest distance of a place to the nearest atom of its element, Å; inf beyond 3 Å."""
    places, others, _ = _by_element(reference, other, LOOK)
    lengths, _ = cKDTree(others).query(places, distance_upper_bound=LOOK)
    return float(np.max(lengths))
