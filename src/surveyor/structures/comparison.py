"""Is it the same structure, up to how a program prints and orders atoms?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from scipy.optimize import linear_sum_assignment

from surveyor.types import Float64Array, IndexArray

_FAR = 1e6


@dataclass(frozen=True, eq=False)
class Comparison:
    """Outcome of `compare`.

    | field  | shape        | meaning                                                              | unit |
    |--------|--------------|----------------------------------------------------------------------|------|
    | order  | (n_atoms,)   | atom i of the reference is atom order[i] of the other; None: differ  |      |
    | offset | scalar       | largest displacement of an atom; inf where elements or cell differ   | Å    |
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
    if sorted(other.numbers) != sorted(reference.numbers):
        return Comparison(None, np.inf, f"{other.symbols}, not {reference.symbols}")
    if (np.asarray(reference.pbc) != np.asarray(other.pbc)).any():
        return Comparison(None, np.inf, f"periodic {other.pbc.tolist()}, not {reference.pbc.tolist()}")
    cell_offset = np.abs((reference.cell.array - other.cell.array)[np.asarray(reference.pbc)])
    if cell_offset.size and cell_offset.max() > tolerance:
        return Comparison(None, np.inf, f"cell vectors differ by {cell_offset.max():.4f} Å")
    order = np.arange(len(reference), dtype=np.intp)
    if (other.numbers != reference.numbers).any() or _offset(reference, other.positions) > tolerance:
        order = _assignment(reference, other)
    offset = _offset(reference, other.positions[order])
    if offset > tolerance:
        return Comparison(None, offset, f"atoms are up to {offset:.4f} Å from their places")
    return Comparison(order, offset)


def _offset(reference: Atoms, positions: Float64Array) -> float:
    _, lengths = find_mic(positions - reference.positions, reference.cell, reference.pbc)
    return float(lengths.max())


def _assignment(reference: Atoms, other: Atoms) -> IndexArray:
    """The order of least total squared displacement in which every atom meets its own element."""
    n = len(reference)
    vectors = (other.positions[None, :, :] - reference.positions[:, None, :]).reshape(-1, 3)
    _, lengths = find_mic(vectors, reference.cell, reference.pbc)
    cost = lengths.reshape(n, n) ** 2
    cost[reference.numbers[:, None] != other.numbers[None, :]] = _FAR
    return np.asarray(linear_sum_assignment(cost)[1], dtype=np.intp)
