"""Calibration where the truth is known: coverage, expected errors, folds; and on real reactions."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest

from conftest import data_file
from surveyor.calibration import (
    Calibration,
    KnownErrors,
    assign_folds,
    calibrate_both,
    fit_calibration,
    held_out_errors,
    held_out_std,
)
from surveyor.errors import FeatureError, StructureError
from surveyor.features import Tangent, unit_mean_square
from surveyor.posterior import Posterior
from surveyor.potentials import open_potential
from surveyor.structures import labels_of
from surveyor.training.references import refit_reference_energies
from surveyor.types import Features, Float64Array


def truth(std: Float64Array) -> Float64Array:
    """Expected |error| in meV/atom: a curve that isotonic regression must find without being told."""
    return 3.0 + 40.0 * std**1.5


def synthetic(n: int, seed: int) -> tuple[Float64Array, Float64Array]:
    """Heteroscedastic errors: |normal| scaled to the expectation that `truth` gives."""
    rng = np.random.default_rng(seed)
    std = rng.gamma(2.0, 0.3, n)
    return std, truth(std) * np.abs(rng.normal(size=n)) * np.sqrt(np.pi / 2)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_cover_fresh_errors(seed: int) -> None:
    std, errors = synthetic(1200, seed)
    found = fit_calibration(std, errors, assign_folds(len(std), seed=seed), unit="meV/atom")
    fresh, fresh_errors = synthetic(20_000, seed + 100)
    for level, slack in ((0.8, 0.05), (0.5, 0.05), (0.95, 0.03)):
        low, high = found.interval(fresh, level)
        covered = ((fresh_errors >= low) & (fresh_errors <= high)).mean()
        assert level - slack < covered < level + slack
    assert 0.75 < found.coverage < 0.85
    inside = (fresh > np.quantile(std, 0.05)) & (fresh < np.quantile(std, 0.95))
    off = np.abs(found.expected(fresh[inside]) / truth(fresh[inside]) - 1)
    assert off.mean() < 0.12


def test_coverage_holds_at_small_and_large_std() -> None:
    std, errors = synthetic(4000, 1)
    found = fit_calibration(std, errors, assign_folds(len(std)))
    fresh, fresh_errors = synthetic(20_000, 2)
    low, high = found.interval(fresh)
    covered = (fresh_errors >= low) & (fresh_errors <= high)
    for part in np.array_split(np.argsort(fresh), 4):
        assert 0.75 < covered[part].mean() < 0.85


def test_expected_error_never_falls_and_stays_put_outside() -> None:
    std, errors = synthetic(300, 5)
    found = fit_calibration(std, errors, assign_folds(300))
    grid = np.linspace(0, 5, 400)
    expected = found.expected(grid)
    assert (np.diff(expected) >= 0).all()
    assert expected[0] == found.error[0]
    assert expected[-1] == found.error[-1]
    assert found.expected(0.5).shape == ()
    low, high = found.interval(grid)
    assert (low <= high).all()
    assert np.isinf(found.interval(grid, 0.9999)[1]).all()
    assert "300 structures" in repr(found)
    assert "80% intervals" in repr(found)


def test_isotonic_regression_is_the_best_of_all_monotone_fits() -> None:
    """Twin: min-max formula of Barlow et al. for distinct points."""
    std, errors = synthetic(30, 3)
    order = np.argsort(std)
    y = errors[order]
    slow = [max(min(y[a : b + 1].mean() for b in range(i, 30)) for a in range(i + 1)) for i in range(30)]
    found = fit_calibration(std, errors, np.arange(30) % 3)
    np.testing.assert_allclose(found.expected(std[order]), slow)


def test_folds_keep_groups_together_and_are_seeded() -> None:
    groups = [f"reaction {i % 7}" for i in range(70)]
    fold = assign_folds(70, seed=1, groups=groups)
    assert len(np.unique(fold)) == 5
    for name in set(groups):
        assert len({int(f) for f, g in zip(fold, groups, strict=True) if g == name}) == 1
    np.testing.assert_array_equal(fold, assign_folds(70, seed=1, groups=groups))
    assert (fold != assign_folds(70, seed=2, groups=groups)).any()
    assert np.bincount(assign_folds(53)).tolist() in ([11, 11, 11, 10, 10],)
    assert len(np.unique(assign_folds(40, groups=["a"] * 30 + ["b"] * 10))) == 2


def test_held_out_std_is_of_a_posterior_that_has_not_seen_the_structure() -> None:
    rng = np.random.default_rng(0)
    train = Features(rng.normal(size=(60, 8)), np.repeat(np.arange(30), 2), 30)
    fold = assign_folds(30)
    std = held_out_std(train, fold, noise=0.1)
    for index in (0, 17):
        others = train.take(np.flatnonzero(fold != fold[index]))
        variance = Posterior.fit(others, noise=0.1).variance(train.take([index]).values)
        assert std[index] == pytest.approx(np.sqrt(variance.mean()))
    inside = np.sqrt(Posterior.fit(train, noise=0.1).structure_variance(train) / 2)
    assert (std > inside).all()


def test_both_quantities_come_from_the_same_folds() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 6)) * rng.gamma(1.0, 1.0, (200, 1))
    residual = np.linalg.norm(values, axis=1) * rng.normal(size=200)
    train = Features.one_row_each(values)
    forces = 10 * held_out_errors(train, residual, assign_folds(200), noise=1.0)
    found = calibrate_both(train, KnownErrors(residual, forces), noise=1.0)
    assert isinstance(found.energy, Calibration)
    np.testing.assert_allclose(found.forces.expected(1.0), 10 * found.energy.expected(1.0))
    assert found.forces.coverage == found.energy.coverage
    several = Features(values, np.repeat(np.arange(100), 2), 100)
    own = calibrate_both(several, KnownErrors(-forces[:100], forces[:100]), noise=1.0)
    np.testing.assert_allclose(own.energy.expected(1.0), own.forces.expected(1.0))
    assert (found.energy.unit, found.forces.unit) == ("meV/atom", "meV/Å")


def test_held_out_errors_are_those_of_ridge_regression_without_the_fold() -> None:
    rng = np.random.default_rng(0)
    train, residuals = Features.one_row_each(rng.normal(size=(30, 4))), rng.normal(5.0, 1.0, 30)
    fold = assign_folds(30)
    found = held_out_errors(train, residuals, fold, noise=0.1)
    others = fold != fold[7]
    rows, mean = train.values[others], residuals[others].mean()
    weights = np.linalg.solve(rows.T @ rows + 0.1 * np.eye(4), rows.T @ (residuals[others] - mean))
    assert found[7] == pytest.approx(abs(residuals[7] - mean - train.values[7] @ weights))
    with pytest.raises(FeatureError, match="for 30 rows"):
        held_out_errors(train, residuals[1:], fold, noise=0.1)


@pytest.mark.slow
def test_intervals_cover_held_out_stretches_of_real_trajectories() -> None:
    """Folds of 100 neighbouring frames; whole kinds held out are not exchangeable, see the page."""
    frames = ase.io.read(data_file("h2-combustion-pool.extxyz"), ":")
    rng = np.random.default_rng(0)
    kind = np.array([f"{atoms.info['config_type']} {atoms.info['reaction']}" for atoms in frames])
    drawn = [rng.choice(np.flatnonzero(kind == name), 160, replace=False) for name in np.unique(kind)]
    chosen = [frames[i] for i in np.sort(np.concatenate(drawn))]
    stretch = [
        f"{atoms.info['config_type']} {atoms.info['reaction']} {int(atoms.info['frame']) // 100}"
        for atoms in chosen
    ]
    potential = open_potential("builtin", "cpu")
    features, *_ = unit_mean_square(Tangent(potential, dim=512, normalise="atoms")(chosen))
    potential = potential.with_reference_shifts(refit_reference_energies(potential, chosen))
    pairs = [(labels_of(atoms), p) for atoms, p in zip(chosen, potential.predict(chosen), strict=True)]
    energy = 1e3 * np.array([(label.energy - p.energy) / len(p.forces) for label, p in pairs])
    forces = 1e3 * np.array([np.abs(label.forces - p.forces).mean() for label, p in pairs])
    found = calibrate_both(features, KnownErrors(energy, forces, stretch), noise=1e-4)
    assert 0.75 < found.energy.coverage < 0.85
    assert 0.75 < found.forces.coverage < 0.85


def test_bad_input_says_what_to_do() -> None:
    fold = assign_folds(30)
    ones = np.ones(30)
    with pytest.raises(StructureError, match=r"19 labelled structures(.|\n)*at least 20"):
        assign_folds(19)
    with pytest.raises(StructureError, match="1 group"):
        assign_folds(30, groups=["a"] * 30)
    with pytest.raises(StructureError, match="2 group names for 30"):
        assign_folds(30, groups=["a", "b"])
    with pytest.raises(FeatureError, match="29 errors"):
        fit_calibration(ones, ones[1:], fold)
    with pytest.raises(FeatureError, match="negative or non-finite"):
        fit_calibration(ones, -ones, fold)
    with pytest.raises(FeatureError, match="all zero"):
        fit_calibration(ones, 0 * ones, fold)
    with pytest.raises(FeatureError, match="level 80"):
        fit_calibration(ones, ones, fold, level=80)
