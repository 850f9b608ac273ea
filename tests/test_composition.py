"""One fit of energies to the elements, against slow twins: loops, normal equations, a linear programme."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from scipy.optimize import linprog

from conftest import rattled
from surveyor.regression import least_absolute, least_squares, spread
from surveyor.structures.composition import counts, element_offsets, elements_of, shares

ELEMENTS = (1, 6, 7, 8, 9)


def some() -> list[Atoms]:
    return rattled(14, seed=5)


def test_counts_and_shares_are_those_of_a_loop() -> None:
    structures = some()
    assert elements_of(structures) == tuple(
        sorted({z for atoms in structures for z in atoms.numbers.tolist()})
    )
    for row, share, atoms in zip(
        counts(structures, ELEMENTS), shares(structures, ELEMENTS), structures, strict=True
    ):
        numbers = atoms.numbers.tolist()
        assert row.tolist() == [numbers.count(z) for z in ELEMENTS]
        assert share.tolist() == [numbers.count(z) / len(atoms) for z in ELEMENTS]
    assert counts([], ELEMENTS).shape == (0, 5)


def test_offsets_solve_the_normal_equations_with_the_least_norm() -> None:
    structures, rng = some(), np.random.default_rng(1)
    values = rng.normal(size=len(structures))
    A = shares(structures, ELEMENTS)
    found = element_offsets(values, structures, ELEMENTS)
    np.testing.assert_allclose(A.T @ (A @ found - values), 0, atol=1e-12)
    np.testing.assert_allclose(found, np.linalg.pinv(A, rcond=1e-8) @ values, atol=1e-10)
    assert found[ELEMENTS.index(9)] == 0
    alone = element_offsets(values[:1], structures[:1], ELEMENTS)  # one structure: nothing is told apart
    assert A[0] @ alone == pytest.approx(values[0])
    null = np.linalg.svd(A[:1])[2][1:]
    np.testing.assert_allclose(null @ alone, 0, atol=1e-12)


def test_singular_values_below_the_cutoff_do_not_count() -> None:
    A, y = np.diag([1.0, 1e-9]), np.array([2.0, 1.0])
    assert least_squares(A, y).tolist() == [2.0, 0.0]
    np.testing.assert_allclose(least_squares(A, y, cutoff=None), [2.0, 1e9])


@pytest.mark.parametrize("share", [0.0, 1e-3])
def test_absolute_deviations_are_as_small_as_a_linear_programme_makes_them(share: float) -> None:
    rng = np.random.default_rng(2)
    A = rng.normal(size=(40, 3))
    y = A @ [1.0, -2.0, 0.5] + 0.01 * rng.normal(size=40)
    y[:6] += 50.0  # gross errors
    found = least_absolute(A, y, floor=1e-7, share=share, iterations=200)
    # min Σ t with −t ≤ A δ − y ≤ t
    cost = np.r_[np.zeros(3), np.ones(40)]
    bounds = np.vstack([np.hstack([A, -np.eye(40)]), np.hstack([-A, -np.eye(40)])])
    best = linprog(cost, bounds, np.r_[y, -y], bounds=[(None, None)] * 3 + [(0, None)] * 40)
    assert np.abs(A @ found - y).sum() == pytest.approx(best.fun, rel=1e-4)
    np.testing.assert_allclose(found, [1.0, -2.0, 0.5], atol=0.02)


def test_the_spread_of_a_normal_bulk_is_its_standard_deviation() -> None:
    values = np.random.default_rng(3).normal(4.0, 2.0, 20_000)
    values[:100] = 1e6
    assert spread(values) == pytest.approx(2.0, rel=0.03)
    assert spread(np.zeros(0)) == 0.0
