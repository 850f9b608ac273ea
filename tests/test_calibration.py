"""Calibration where the truth is known: coverage, expected errors, folds; and on real reactions."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from conftest import data_file
from surveyor.calibration import (
    KnownErrors,
    assign_folds,
    calibrate_both,
    fit_calibration,
    held_out,
)
from surveyor.errors import FeatureError, StructureError
from surveyor.features import Tangent, unit_mean_square
from surveyor.metrics import residuals
from surveyor.posterior import Posterior
from surveyor.potentials import open_potential
from surveyor.potentials.references import refit_reference_energies
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
    fresh, fresh_errors = synthetic(4000, seed + 100)
    for level, slack in ((0.8, 0.05), (0.5, 0.05), (0.95, 0.03)):
        covered = (fresh_errors <= found.half_width(fresh, level)).mean()
        assert level - slack < covered < level + slack
    assert 0.75 < found.coverage < 0.85
    inside = (fresh > np.quantile(std, 0.05)) & (fresh < np.quantile(std, 0.95))
    off = np.abs(found.expected(fresh[inside]) / truth(fresh[inside]) - 1)
    assert off.mean() < 0.12


def test_coverage_holds_at_small_and_large_std() -> None:
    std, errors = synthetic(4000, 1)
    found = fit_calibration(std, errors, assign_folds(len(std)))
    fresh, fresh_errors = synthetic(8000, 2)
    covered = fresh_errors <= found.half_width(fresh)
    for part in np.array_split(np.argsort(fresh), 4):
        assert 0.75 < covered[part].mean() < 0.85


@pytest.mark.parametrize("n_groups", [8, 40])
def test_intervals_cover_groups_that_nothing_is_known_of(n_groups: int) -> None:
    """Groups differ in the scale of their errors: on average over them, the level is about kept."""
    covered = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        scale = np.exp(0.5 * rng.normal(size=n_groups + 1))
        group = np.repeat(np.arange(n_groups + 1), 30)
        std, errors = synthetic(len(group), seed)
        errors = errors * scale[group]
        seen = group < n_groups
        fold = assign_folds(seen.sum(), groups=group[seen].astype(str).tolist(), folds=8)
        found = fit_calibration(std[seen], errors[seen], fold)
        covered.append((errors[~seen] <= found.half_width(std[~seen])).mean())
    assert 0.7 < np.mean(covered) < 0.87


def test_expected_error_never_falls_and_stays_put_outside() -> None:
    std, errors = synthetic(300, 5)
    found = fit_calibration(std, errors, assign_folds(300))
    grid = np.linspace(0, 5, 400)
    expected = found.expected(grid)
    assert (np.diff(expected) >= 0).all()
    assert expected[0] == found.error[0]
    assert expected[-1] == found.error[-1]
    assert found.expected(0.5).shape == ()
    assert (found.half_width(grid, 0.6) <= found.half_width(grid, 0.8)).all()
    assert np.isinf(found.half_width(grid, 0.9999)).all()
    with pytest.raises(FeatureError, match="one row per fold"):
        found.half_width(np.ones((4, 7)))
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
    assert len(np.unique(assign_folds(40, groups=["a"] * 20 + ["b"] * 10 + ["c"] * 10))) == 3


def test_half_widths_are_the_plain_quantile_of_scores_times_expectations() -> None:
    """Twin: one structure and one fold after the other, from the definition."""
    rng = np.random.default_rng(3)
    fold = np.arange(60) % 4
    std, errors = rng.gamma(2, 1, (4, 60)), rng.gamma(2, 1, (4, 60))
    found = fit_calibration(std, errors, fold)
    own_std = np.array([std[fold[i], i] for i in range(60)])
    own_errors = np.array([errors[fold[i], i] for i in range(60)])
    fresh = rng.gamma(2, 1, (4, 9))
    for column in range(9):
        products = []
        for i in range(60):
            others = np.flatnonzero(fold != fold[i])
            others = others[np.argsort(own_std[others])]
            fitted = isotonic_regression(own_errors[others]).x
            here, there = np.interp([own_std[i], fresh[fold[i], column]], own_std[others], fitted)
            products.append(own_errors[i] / here * there)
        rank = int(np.ceil(61 * 0.8)) - 1
        assert found.half_width(fresh)[column] == pytest.approx(sorted(products)[rank])


def test_coverage_is_that_of_calibrating_without_each_fold() -> None:
    """Twin: leave a fold out altogether, calibrate on the rest, and count."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(150, 6)) * rng.gamma(1.0, 1.0, (150, 1))
    residual = np.linalg.norm(values, axis=1) * rng.normal(size=150)
    names = [f"group {number}" for number in np.arange(150) % 5]
    train, forces = Features.one_row_each(values), rng.gamma(2, 1, 150)
    found = calibrate_both(train, KnownErrors(residual, forces, names), noise=0.1)
    inside = np.zeros(150, dtype=bool)
    for name in set(names):
        test = np.flatnonzero(np.array(names) == name)
        rest = np.flatnonzero(np.array(names) != name)
        known = KnownErrors(residual[rest], forces[rest], [names[i] for i in rest])
        part = calibrate_both(train.take(rest), known, noise=0.1)
        mean = residual[rest].mean()
        learner = Posterior.fit(train.take(rest), noise=0.1, targets=residual[rest] - mean)
        error = np.abs(residual[test] - mean - learner.mean(train.take(test).values))
        inside[test] = error <= part.half_widths(train.take(test))[0]
    np.testing.assert_array_equal(found.energy.inside, inside)
    assert found.energy.coverage == inside.mean()


def test_held_out_std_is_of_a_posterior_that_has_not_seen_the_structure() -> None:
    rng = np.random.default_rng(0)
    train, residuals = Features.one_row_each(rng.normal(size=(30, 4))), rng.normal(5.0, 1.0, 30)
    fold = assign_folds(30)
    std, errors = held_out(train, fold, noise=0.1, residuals=residuals)
    for index, number in ((0, 0), (7, 1), (7, int(fold[7])), (17, 4)):
        others = (fold != fold[index]) & (fold != number)
        rows, mean = train.values[others], residuals[others].mean()
        inverse = np.linalg.inv(rows.T @ rows + 0.1 * np.eye(4))
        x = train.values[index]
        expected = residuals[index] - mean - x @ inverse @ rows.T @ (residuals[others] - mean)
        assert std[number, index] == pytest.approx(np.sqrt(0.1 * x @ inverse @ x))
        assert errors[number, index] == pytest.approx(abs(expected))
    with pytest.raises(FeatureError, match="for 30 rows"):
        held_out(train, fold, noise=0.1, residuals=residuals[1:])


def test_std_of_a_structure_is_the_root_mean_square_over_its_rows() -> None:
    rng = np.random.default_rng(0)
    train = Features(rng.normal(size=(60, 8)), np.repeat(np.arange(30), 2), 30)
    fold = assign_folds(30)
    std, errors = held_out(train, fold, noise=0.1)
    assert errors is None
    for index in (0, 17):
        others = train.take(np.flatnonzero(fold != fold[index]))
        variance = Posterior.fit(others, noise=0.1).variance(train.take([index]).values)
        assert std[fold[index], index] == pytest.approx(np.sqrt(variance.mean()))
    inside = Posterior.fit(train, noise=0.1).structure_std(train)
    assert (std > inside).all()


def test_energies_are_the_learners_and_forces_the_potentials() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 6)) * rng.gamma(1.0, 1.0, (200, 1))
    residual = np.linalg.norm(values, axis=1) * rng.normal(size=200)
    train, forces = Features.one_row_each(values), rng.gamma(2, 1, 200)
    found = calibrate_both(train, KnownErrors(residual, forces), noise=1.0)
    fold = assign_folds(200)
    std, learned = held_out(train, fold, noise=1.0, residuals=residual)
    energy, plain = fit_calibration(std, learned, fold), fit_calibration(std, forces, fold)
    np.testing.assert_allclose(found.energy.expected(1.0), energy.expected(1.0))
    np.testing.assert_allclose(found.forces.expected(1.0), plain.expected(1.0))
    assert (found.energy.unit, found.forces.unit) == ("meV/atom", "meV/Å")
    several = Features(values, np.repeat(np.arange(100), 2), 100)
    own = calibrate_both(several, KnownErrors(-forces[:100], forces[:100]), noise=1.0)
    np.testing.assert_allclose(own.energy.expected(1.0), own.forces.expected(1.0))


@pytest.mark.slow
def test_intervals_cover_kinds_of_real_trajectories_that_are_held_out() -> None:
    """The measure of benchmarks/calibration.py, with two seeds: wide bounds, since five kinds scatter."""
    frames = ase.io.read(data_file("h2-combustion-pool.extxyz"), "::10")
    kind = np.array([f"{atoms.info['config_type']} {atoms.info['reaction']}" for atoms in frames])
    potential = open_potential("builtin", "cpu")
    features, *_ = unit_mean_square(Tangent(potential, dim=512, normalise="atoms")(frames))
    potential = potential.with_reference_shifts(refit_reference_energies(potential, frames))
    energy, forces = residuals(potential, frames)
    each = np.array([np.abs(difference).mean() for difference in forces])
    covered = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        drawn = [rng.choice(np.flatnonzero(kind == name), 120, replace=False) for name in np.unique(kind)]
        chosen = np.sort(np.concatenate(drawn))
        known = KnownErrors(1e3 * energy[chosen], 1e3 * each[chosen], kind[chosen].tolist())
        found = calibrate_both(features.take(chosen), known, noise=1e-4)
        covered.append([found.energy.coverage, found.forces.coverage])
    assert (np.mean(covered, axis=0) > 0.65).all()
    assert (np.mean(covered, axis=0) < 0.92).all()


def test_bad_input_says_what_to_do() -> None:
    fold = assign_folds(30)
    ones = np.ones(30)
    with pytest.raises(StructureError, match=r"19 labelled structures(.|\n)*at least 20"):
        assign_folds(19)
    with pytest.raises(StructureError, match="1 groups"):
        assign_folds(30, groups=["a"] * 30)
    with pytest.raises(StructureError, match="2 group names for 30"):
        assign_folds(30, groups=["a", "b"])
    with pytest.raises(FeatureError, match=r"errors of shape \(29,\)"):
        fit_calibration(ones, ones[1:], fold)
    with pytest.raises(FeatureError, match="negative or non-finite"):
        fit_calibration(ones, -ones, fold)
    with pytest.raises(FeatureError, match="all zero"):
        fit_calibration(ones, 0 * ones, fold)
    with pytest.raises(FeatureError, match="level 80"):
        fit_calibration(ones, ones, fold, level=80)
