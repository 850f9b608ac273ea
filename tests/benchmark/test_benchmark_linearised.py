"""The linearised learner against slow, obvious twins."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from surveyor import linearised
from surveyor.errors import FeatureError
from surveyor.linearised import (
    ENERGY_WEIGHTS,
    NOISES,
    Linearised,
    Rows,
    _spectra,
    fit,
    shift_references,
)


def problem(m: int = 12, dim: int = 30, probes: int = 3, seed: int = 0, noise: float = 0.05) -> Rows:
    """Rows that a hidden step of the parameters and hidden shifts explain, but for noise."""
    rng = np.random.default_rng(seed)
    step, shifts = rng.normal(size=dim) / np.sqrt(dim), np.array([1.0, -2.0, 0.5])
    composition = rng.dirichlet(np.ones(3), m)
    energy, forces = rng.normal(size=(m, dim)), rng.normal(size=(m * probes, dim))
    return Rows(
        energy=energy,
        energy_residual=energy @ step + composition @ shifts + noise * rng.normal(size=m) / 3,
        composition=composition,
        forces=forces,
        force_residual=forces @ step + noise * rng.normal(size=m * probes),
        owner=np.repeat(np.arange(m), probes),
    )


def slow(rows: Rows, noise: float, weight: float, left_out: int | None = None) -> Linearised:
    """Weights and shifts from one least-squares problem with the penalty as extra rows."""
    m, dim = rows.energy.shape
    n = rows.composition.shape[1]
    keep = np.arange(m) != left_out
    own = rows.owner != left_out
    top = weight * np.concatenate([rows.energy[keep], rows.composition[keep]], axis=1)
    middle = np.concatenate([rows.forces[own], np.zeros((own.sum(), n))], axis=1)
    bottom = np.concatenate([np.sqrt(noise) * np.eye(dim), np.zeros((dim, n))], axis=1)
    targets = [weight * rows.energy_residual[keep], rows.force_residual[own], np.zeros(dim)]
    solution = np.linalg.lstsq(np.concatenate([top, middle, bottom]), np.concatenate(targets), rcond=None)[0]
    return Linearised(solution[:dim], solution[dim:], noise, weight, np.nan)


@pytest.mark.parametrize("dim", [30, 80])  # fewer columns than rows, and more
@pytest.mark.parametrize("choose", ["evidence", "loo"])
def test_the_fit_is_the_penalised_least_squares_solution(dim: int, choose: str) -> None:
    rows = problem(dim=dim)
    found = fit(rows, choose=choose)  # type: ignore[arg-type]
    twin = slow(rows, found.noise, found.energy_weight)
    np.testing.assert_allclose(found.weights, twin.weights, atol=1e-8)
    np.testing.assert_allclose(found.shifts, twin.shifts, atol=1e-8)


@pytest.mark.parametrize("products", [linearised.PRODUCTS, 1000, 10])  # at once, in parts, one by one
@pytest.mark.parametrize("dim", [30, 80])
def test_left_out_errors_are_those_of_fits_without_the_structure(
    dim: int, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = problem(dim=dim)
    m = len(rows.energy)
    (spectrum,) = _spectra(rows, [3.0])
    noises = np.array([0.001, 0.1]) * spectrum.scale
    starts = np.searchsorted(rows.owner, np.arange(m + 1))
    blocks = [np.concatenate([[i], m + np.arange(starts[i], starts[i + 1])]) for i in range(m)]
    monkeypatch.setattr(linearised, "PRODUCTS", products)
    errors = spectrum.left_out(noises, blocks)
    for i, (noise, found) in product(range(m), zip(noises, errors.T, strict=True)):
        twin = slow(rows, noise, 3.0, left_out=i)
        energy = rows.energy_residual[i] - rows.energy[i] @ twin.weights - rows.composition[i] @ twin.shifts
        forces = rows.force_residual[rows.owner == i] - rows.forces[rows.owner == i] @ twin.weights
        np.testing.assert_allclose(found[blocks[i]], [3.0 * energy, *forces], atol=1e-8)


@pytest.mark.parametrize("dim", [20, 80])
def test_the_evidence_is_the_density_of_the_targets(dim: int) -> None:
    rows = problem(dim=dim)
    m, weight = len(rows.energy), 3.0
    (spectrum,) = _spectra(rows, [weight])
    noise = 0.03 * spectrum.scale
    # an orthonormal basis of what δ leaves of the energies makes a proper density of them
    basis = np.linalg.svd(rows.composition)[0][:, rows.composition.shape[1] :]
    X = np.concatenate([basis.T @ rows.energy, rows.forces])
    y = np.concatenate([basis.T @ rows.energy_residual, rows.force_residual])
    spread = np.concatenate([np.full(basis.shape[1], 1 / weight**2), np.ones(len(rows.forces))])
    shape = np.diag(spread) + X @ X.T / noise
    scale = y @ np.linalg.solve(shape, y) / len(y)
    density = multivariate_normal(cov=scale * shape).logpdf(y)
    assert spectrum.evidence(noise) == pytest.approx(density, rel=1e-10)
    assert spectrum.degrees == len(y) == m - 3 + len(rows.forces)


def test_the_chosen_pair_is_the_best_of_the_grid() -> None:
    rows = problem()
    found = fit(rows, choose="evidence")
    scores = {
        (spectrum.energy_weight, share): spectrum.evidence(share * spectrum.scale)
        for spectrum in _spectra(rows, ENERGY_WEIGHTS)
        for share in NOISES
    }
    assert max(scores, key=scores.__getitem__) == (found.energy_weight, found.noise_share)


def test_hidden_parameters_come_back_without_noise() -> None:
    rows = problem(m=40, dim=10, noise=0.0)
    found = fit(rows, noise=1e-10)  # the grid's own candidates are for labels with noise
    predicted = rows.energy @ found.weights + rows.composition @ found.shifts
    np.testing.assert_allclose(predicted, rows.energy_residual, atol=1e-6)


def test_energies_alone_and_a_single_composition() -> None:
    rows = problem()
    alone = Rows(
        rows.energy,
        rows.energy_residual,
        np.full((12, 3), 1 / 3),
        np.zeros((0, 30)),
        np.zeros(0),
        np.zeros(0, dtype=np.intp),
    )
    found = fit(alone)
    assert found.energy_weight == 1.0
    np.testing.assert_allclose(found.shifts, found.shifts[0])  # of all minima the one of least |δ|


def test_a_given_noise_is_kept_and_bad_rows_are_refused() -> None:
    rows = problem()
    assert fit(rows, noise=1e-3).noise_share == 1e-3
    with pytest.raises(FeatureError, match="not finite"):
        Rows(
            rows.energy,
            rows.energy_residual * np.nan,
            rows.composition,
            rows.forces,
            rows.force_residual,
            rows.owner,
        )
    with pytest.raises(FeatureError, match="shapes"):
        Rows(
            rows.energy,
            rows.energy_residual[:3],
            rows.composition,
            rows.forces,
            rows.force_residual,
            rows.owner,
        )


def test_shifts_of_absent_elements_are_zero() -> None:
    composition = np.array([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]])
    np.testing.assert_allclose(
        shift_references(composition, composition @ [1.0, 3.0, 9.0]), [1.0, 3.0, 0.0], atol=1e-12
    )
