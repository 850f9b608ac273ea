"""The posterior against the textbook formulas, and what conditioning must and must not do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surveyor.errors import FeatureError, SelectionError
from surveyor.posterior import Posterior
from surveyor.types import Features


def features(n: int, dim: int = 7, seed: int = 0, dtype: type = np.float64) -> Features:
    return Features.one_row_each(np.random.default_rng(seed).standard_normal((n, dim)).astype(dtype))


def blocks(counts: list[int], dim: int = 7, seed: int = 0) -> Features:
    values = np.random.default_rng(seed).standard_normal((sum(counts), dim))
    return Features(values, np.repeat(np.arange(len(counts)), counts), len(counts))


@pytest.mark.parametrize("n", [0, 1, 4, 30])
def test_variance_is_its_definition(n: int) -> None:
    train, pool, noise = features(n), features(9, seed=1), 0.03
    A = train.values.T @ train.values + noise * np.eye(7)
    expected = [noise * x @ np.linalg.solve(A, x) for x in pool.values]
    posterior = Posterior.fit(train, noise=noise)
    np.testing.assert_allclose(posterior.variance(pool.values), expected, rtol=1e-10)
    np.testing.assert_allclose(np.diag(posterior.covariance(pool.values, pool.values)), expected, rtol=1e-10)
    assert posterior.n_rows == n


def test_variance_without_labels_is_the_squared_norm() -> None:
    pool = features(5)
    posterior = Posterior.fit(Features.empty(7), noise=1e-4)
    np.testing.assert_allclose(posterior.variance(pool.values), (pool.values**2).sum(axis=1), rtol=1e-12)


def test_variance_tends_to_the_squared_distance_from_the_span() -> None:
    train, pool = features(4), features(9, seed=1)
    weights = np.linalg.lstsq(train.values.T, pool.values.T, rcond=None)[0]
    distance = ((pool.values.T - train.values.T @ weights) ** 2).sum(axis=0)
    np.testing.assert_allclose(Posterior.fit(train, noise=1e-9).variance(pool.values), distance, atol=1e-7)


def test_single_precision_features_are_summed_in_double() -> None:
    train, pool = features(300, dtype=np.float32), features(9, seed=1, dtype=np.float32)
    wide = Features.one_row_each(train.values.astype(np.float64))
    narrow, double = (Posterior.fit(f, noise=1e-4).variance(pool.values) for f in (train, wide))
    np.testing.assert_allclose(narrow, double, rtol=1e-12)


def test_conditioning_in_any_portions_equals_fitting_at_once() -> None:
    parts = [blocks([1, 3, 2], seed=1), blocks([2], seed=2), blocks([1, 1, 4], seed=3)]
    targets = [np.random.default_rng(9).standard_normal(len(part.values)) for part in parts]
    pool = features(9, seed=4)
    posterior = Posterior.fit(parts[0], noise=0.01, targets=targets[0])
    before = posterior.variance(pool.values)
    once = Posterior.fit(Features.concatenate(parts), noise=0.01, targets=np.concatenate(targets))
    grown = posterior
    for part, target in zip(parts[1:], targets[1:], strict=True):
        grown = grown.condition(part, targets=target)
    np.testing.assert_allclose(grown.variance(pool.values), once.variance(pool.values), rtol=1e-9)
    np.testing.assert_allclose(grown.mean(pool.values), once.mean(pool.values), rtol=1e-9)
    np.testing.assert_array_equal(posterior.variance(pool.values), before)  # nothing was mutated
    assert grown.n_rows == once.n_rows == 14


def test_mean_is_ridge_regression() -> None:
    train, pool = features(20), features(9, seed=1)
    targets = np.random.default_rng(3).standard_normal(20)
    posterior = Posterior.fit(train, noise=0.1, targets=targets)
    A = train.values.T @ train.values + 0.1 * np.eye(7)
    expected = pool.values @ np.linalg.solve(A, train.values.T @ targets)
    np.testing.assert_allclose(posterior.mean(pool.values), expected, rtol=1e-10)


def test_the_std_of_a_structure_is_the_root_mean_square_over_its_rows() -> None:
    posterior = Posterior.fit(features(3), noise=0.01)
    pool = blocks([1, 3, 2], seed=5)
    s2 = posterior.variance(pool.values)
    expected = np.sqrt([s2[0], s2[1:4].mean(), s2[4:].mean()])
    np.testing.assert_allclose(posterior.structure_std(pool), expected, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 12),
    st.integers(1, 4),
    st.sampled_from([1e-6, 1e-2, 1.0]),
    st.sampled_from([1e-2, 1.0, 1e2]),
    st.integers(0, 10**6),
)
def test_conditioning_never_raises_a_variance(
    n: int, more: int, noise: float, scale: float, seed: int
) -> None:
    train, pool = features(n, seed=seed), features(15, seed=seed + 1)
    new = Features.one_row_each(scale * features(more, seed=seed + 2).values)
    before = Posterior.fit(train, noise=noise)
    old, fresh = before.variance(pool.values), before.condition(new).variance(pool.values)
    assert (fresh <= old * (1 + 1e-8) + 1e-12).all()
    assert (fresh >= 0).all()


def test_outcomes_of_bad_input() -> None:
    train = features(4)
    for noise in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(SelectionError, match="noise"):
            Posterior.fit(train, noise=noise)
    posterior = Posterior.fit(train, noise=0.1)
    for wrong in (np.zeros((3, 6)), np.zeros(7)):
        with pytest.raises(FeatureError, match="expected"):
            posterior.variance(wrong)
    with pytest.raises(FeatureError):
        posterior.condition(features(2, dim=6))
    with pytest.raises(FeatureError, match="row 1"):
        posterior.variance(np.array([[0.0] * 7, [np.nan] * 7]))
    with pytest.raises(FeatureError, match="targets"):
        posterior.mean(train.values)
    for targets in (np.zeros(3), np.full(4, np.nan)):
        with pytest.raises(FeatureError, match="targets"):
            Posterior.fit(train, noise=0.1, targets=targets)
    with pytest.raises(FeatureError, match="without targets"):
        Posterior.fit(train, noise=0.1, targets=np.zeros(4)).condition(features(1)).mean(train.values)
    assert posterior.variance(np.zeros((0, 7))).shape == (0,)
    assert "4 labelled rows" in repr(posterior)
