"""Energies as sums over the elements: numbers of atoms, and the fit that wrong energies do not move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from surveyor.types import Float64Array

ITERATIONS = 30
TO_SIGMA = 1.4826
"""Standard deviation / median absolute deviation of a normal distribution."""


def elements_of(structures: Sequence[Atoms]) -> list[int]:
    """Atomic numbers that occur, ascending."""
    return sorted({z for atoms in structures for z in set(atoms.numbers.tolist())})


def atom_counts(structures: Sequence[Atoms], elements: Sequence[int]) -> Float64Array:
    """n_z(x), (structures, elements)."""
    counts = [[np.count_nonzero(atoms.numbers == z) for z in elements] for atoms in structures]
    return np.array(counts, dtype=np.float64)


def least_absolute(rows: Float64Array, values: Float64Array) -> Float64Array:
    """δ that minimises Σ |v − A δ|, of least norm, by least squares with weights 1/|v − A δ| again and again.

    Least squares alone would bend to the very values that are wrong.
    """
    weights = np.ones(len(values))
    solution: Float64Array = np.zeros(rows.shape[1])
    for _ in range(ITERATIONS):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(rows * root[:, None], values * root, rcond=1e-10)[0]
        solution = np.asarray(found, dtype=np.float64)
        left = np.abs(values - rows @ solution)
        weights = 1 / np.maximum(left, max(1e-6, 1e-3 * float(np.median(left))))
        weights /= weights.max()
    return solution


def spread(values: Float64Array) -> float:
    """1.4826 median |y − median y|: the standard deviation of the bulk."""
    return TO_SIGMA * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0
