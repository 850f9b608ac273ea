"""One energy an element: how structures are composed, and the fit that reference energies come from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from surveyor.regression import least_squares
from surveyor.types import Float64Array


def elements_of(structures: Sequence[Atoms]) -> tuple[int, ...]:
    """Atomic numbers that occur, ascending."""
    return tuple(sorted({int(z) for atoms in structures for z in set(atoms.numbers.tolist())}))


def counts(structures: Sequence[Atoms], elements: Sequence[int]) -> Float64Array:
    """n_z(x), (structures, elements): atoms of each element in each structure."""
    numbers = [[np.count_nonzero(atoms.numbers == z) for z in elements] for atoms in structures]
    return np.array(numbers, dtype=np.float64).reshape(len(structures), len(elements))


def shares(structures: Sequence[Atoms], elements: Sequence[int]) -> Float64Array:
    """n_z(x) / n(x), (structures, elements)."""
    sizes = np.array([len(atoms) for atoms in structures], dtype=np.float64)
    return counts(structures, elements) / sizes[:, None]


def element_offsets(
    values: Float64Array, structures: Sequence[Atoms], elements: Sequence[int]
) -> Float64Array:
    """One constant per element that explains most of some energies per atom.

    min_δ Σ_x [v(x) − Σ_z n_z(x) δ_z / n(x)]²; of all minima the one of least |δ|, so that elements which the
    structures cannot tell apart share the offset, and absent ones have none.

    | variable | shape            | meaning                              | unit    |
    |----------|------------------|--------------------------------------|---------|
    | v        | (structures,)    | energies per atom                    | eV/atom |
    | n_z, n   |                  | atoms of element z, and of all       |         |
    | δ        | (elements,)      | offset of each element, the result   | eV      |
    """
    return least_squares(shares(structures, elements), values)
