"""Bad input, thresholds, budgets, bounds from an earlier round, and pools that are not in memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from pools import grouped, pool

from surveyor.errors import FeatureError, SelectionError, SurveyorError
from surveyor.selection import (
    LCMD,
    ByTurns,
    Committee,
    FarthestPoint,
    Herding,
    MaxVariance,
    MisfitVariance,
    Random,
    TargetVariance,
    TopK,
    committee,
    farthest,
    herding,
    lcmd,
    max_variance,
    random,
    target_variance,
    top_k,
)
from surveyor.selection import lazy as lazy_module
from surveyor.selection import pool as pool_module
from surveyor.types import Features, Selection, Selector, Stopped

RULES: list[Selector] = [
    MaxVariance(),
    TopK(),
    FarthestPoint(),
    LCMD(),
    TargetVariance(sample=9),
    MisfitVariance(sample=9),
    ByTurns(sample=9),
    Herding(),
    Random(),
]
FUNCTIONS = [
    max_variance,
    top_k,
    farthest,
    herding,
    lcmd,
    random,
    lambda X, T, k: target_variance(X, T, None, k, sample=9),
    lambda X, T, k: committee(X, T, np.linspace(0, 1, X.shape[0] if X.ndim == 2 else 1), k),
]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
each_function = pytest.mark.parametrize("function", FUNCTIONS)


def run(rule: Selector, X: Features, train: Features, k: int) -> Selection:
    return rule(X, train, k, rng=np.random.default_rng(0))


@each_rule
def test_requests_that_cannot_be_met(rule: Selector) -> None:
    X, train = Features.one_row_each(pool("random")), Features.one_row_each(pool("random", 3))
    for k in (0, -1, 1.5, True):
        with pytest.raises(SelectionError, match="positive whole number"):
            run(rule, X, train, k)  # type: ignore[arg-type]
    with pytest.raises(SelectionError, match="empty pool"):
        run(rule, Features.empty(12), train, 1)
    with pytest.raises(SelectionError, match="width 12 and labelled rows of width 5"):
        run(rule, X, Features.empty(5), 1)


@each_function
def test_rows_that_are_not_numbers(function) -> None:
    X, train = pool("random"), pool("random", 3, seed=1)
    for value in (np.nan, np.inf, -np.inf):
        bad = X.copy()
        bad[17, 3] = value
        with pytest.raises(FeatureError, match="row 17"):
            function(bad, train, 2)
        with pytest.raises(FeatureError):
            function(X, bad, 2)
    with pytest.raises(SelectionError, match="shape"):
        function(X[0], train, 2)


@pytest.mark.parametrize("noise", [0.0, -1e-4, np.nan, np.inf])
def test_noise_must_be_positive(noise: float) -> None:
    X, train = pool("random"), pool("random", 3, seed=1)
    for rule in (max_variance, top_k, lambda X, T, k, noise: target_variance(X, T, X, k, noise=noise)):
        with pytest.raises(SelectionError, match="noise"):
            rule(X, train, 2, noise=noise)


def test_settings_of_the_wrong_shape_or_sign() -> None:
    X, train = pool("random", 20), pool("random", 3, seed=1)
    bad: list[dict[str, object]] = [
        {"cost": np.ones(19)},
        {"cost": np.zeros(20)},
        {"cost": np.full(20, np.nan)},
        {"cost": np.ones(20), "budget": 0.0},
        {"budget": 3.0},
        {"threshold": -1.0},
        {"threshold": np.nan},
        {"ids": ["a"]},
    ]
    for settings in bad:
        for rule in (max_variance, farthest):
            with pytest.raises(SelectionError):
                rule(X, train, 2, **settings)
    with pytest.raises(SelectionError, match="target"):
        target_variance(X, train, np.zeros((0, 12)), 2)
    with pytest.raises(SelectionError, match="target"):
        target_variance(X, train, np.zeros((3, 5)), 2)
    with pytest.raises(SelectionError, match="sample"):
        target_variance(X, train, None, 2, sample=0)
    for rule, message in (
        (Herding(components=0), "components"),
        (Herding(sample=0), "sample"),
        (MisfitVariance(misfit=-1.0), "misfit"),
        (MisfitVariance(power=np.inf), "power"),
        (ByTurns(share=1.1), "share"),
    ):
        with pytest.raises(SelectionError, match=message):
            rule(Features.one_row_each(X), Features.one_row_each(train), 2)


def test_disagreements_that_cannot_be_ranked() -> None:
    X, train = Features.one_row_each(pool("random", 20)), Features.empty(12)
    for values in (np.ones(19), np.full(20, np.nan), np.full(20, np.inf), np.linspace(-1, 1, 20)):
        with pytest.raises(SelectionError, match="disagreement"):
            Committee(values)(X, train, 2)
    with pytest.raises(SelectionError, match="3 ranks for 20 structures"):
        Committee(np.ones(20))(X, train, 2, rank=np.arange(3))


@each_function
def test_rows_too_large_to_square(function) -> None:
    X = pool("random")
    X[5] = 1e200
    if function in (random, FUNCTIONS[-1]):
        assert len(function(X, X[:3], 2)) == 2  # these square nothing
        return
    with pytest.raises(FeatureError, match="row 5"):
        function(X, X[:3], 2)


def test_extreme_but_representable_scales_give_the_same_picks() -> None:
    X, train = pool("clustered", 60), pool("clustered", 4, seed=1)
    for scale in (1e-60, 1e60):
        for rule in (farthest, lcmd):
            expected = rule(X, train, 15).indices.tolist()
            assert rule(scale * X, scale * train, 15).indices.tolist() == expected
        expected = max_variance(X, train, 15).indices.tolist()
        got = max_variance(scale * X, scale * train, 15, noise=1e-4 * scale**2)
        assert got.indices.tolist() == expected


@each_function
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, int])
def test_pools_without_anything_novel_are_still_served(function, dtype: type) -> None:
    one = (10 * pool("random", 1)).astype(dtype)
    copies = np.repeat(one, 6, axis=0)
    for X in (copies, np.zeros_like(copies)):
        for train in (copies[:0], copies[:2]):
            got = function(X, train, 4)
            assert sorted(set(got.indices.tolist())) == sorted(got.indices.tolist())
            assert len(got) == 4
            assert got.stopped == Stopped.FILLED
            assert function(X, train, 6).stopped == function(X, train, 60).stopped == Stopped.EXHAUSTED


@each_function
def test_a_pool_that_holds_the_labelled_rows(function) -> None:
    X = pool("random", 30)
    got = function(X, X[10:20], 20)
    assert set(got.indices.tolist()) == {*range(10), *range(20, 30)}


def test_a_small_novel_row_precedes_a_large_copy() -> None:
    """A copy keeps about λ of variance, more than the whole of a row with |x|² < λ."""
    train = np.eye(3)[:1]
    X = np.array([[1.0, 0, 0], [-0.0, 1e-4, 0], [0, 0, 0]])
    for rule in (max_variance, farthest, lcmd, top_k, lambda X, T, k: target_variance(X, T, X, k)):
        got = rule(X, train, 3)
        assert got.indices[0] == 1


def test_picks_make_copies_of_themselves() -> None:
    X = np.concatenate([np.eye(5), np.eye(5), 1e-3 * np.eye(5)[:, ::-1] + 1e-3])
    got = max_variance(X, np.zeros((0, 5)), 15)
    assert set(got.indices[:5].tolist()) == set(range(5))
    assert set(got.indices[10:].tolist()) == set(range(5, 10))


def test_threshold_stops_early_and_says_so() -> None:
    X, train = pool("random", 40), pool("random", 3, seed=1)
    for rule in (
        max_variance,
        top_k,
        farthest,
        lcmd,
        lambda X, T, k, **kw: target_variance(X, T, X, k, **kw),
        lambda X, T, k, **kw: committee(X, T, (X**2).sum(axis=1), k, **kw),
    ):
        full = rule(X, train, 40)
        cut = float(full.scores[7])
        stopped = rule(X, train, 40, threshold=cut)
        below = int(np.argmax(full.scores < cut))
        assert stopped.stopped == Stopped.BELOW_THRESHOLD
        assert stopped.indices.tolist() == full.indices[:below].tolist()
        assert len(rule(X, train, 40, threshold=1e9)) == 0
    got = max_variance(X, train, 5, threshold=0.0)
    assert (len(got), got.stopped) == (5, Stopped.FILLED)


def test_budget_is_kept_and_what_no_longer_fits_is_skipped() -> None:
    X, train = pool("random", 50), pool("random", 3, seed=1)
    cost = np.random.default_rng(0).uniform(1, 10, size=50)
    for rule in (max_variance, farthest, lcmd, partial(target_variance, X_target=None)):
        got = rule(X, train, k=50, cost=cost, budget=30.0)
        spent = cost[got.indices].sum()
        left = np.setdiff1d(np.arange(50), got.indices)
        assert spent <= 30.0
        assert cost[left].min() > 30.0 - spent  # nothing more would fit
        assert got.stopped == Stopped.BUDGET_SPENT
        assert rule(X, train, k=2, cost=cost, budget=30.0).stopped == Stopped.FILLED
        assert rule(X, train, k=60, cost=cost, budget=1e9).stopped == Stopped.EXHAUSTED
        assert len(rule(X, train, k=5, cost=cost, budget=0.5)) == 0
        same = rule(X, train, k=9, cost=np.full(50, 3.0)).indices
        np.testing.assert_array_equal(same, rule(X, train, k=9).indices)


def test_random_is_seeded_and_uniform() -> None:
    X, train = pool("random", 10), pool("random", 3, seed=1)
    assert random(X, train, 5, seed=3).indices.tolist() == random(X, train, 5, seed=3).indices.tolist()
    first = [int(random(X, train, 1, seed=seed).indices[0]) for seed in range(400)]
    assert np.bincount(first, minlength=10).min() > 15


@each_function
def test_memory_maps_and_zarr_arrays_give_the_same_picks(
    function,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = pool("clustered", 1500, dim=16, dtype=np.float32)
    X, train = rows[20:], rows[:20]
    expected = function(X, train, 25)
    np.save(tmp_path / "rows.npy", X)
    stored = zarr.create_array(tmp_path / "rows.zarr", data=X, chunks=(128, 16))
    monkeypatch.setattr(pool_module, "CACHED_BYTES", 200 * 64)  # so that the cache overflows
    monkeypatch.setattr(lazy_module, "BULK_ROWS", 64)
    for source in (np.load(tmp_path / "rows.npy", mmap_mode="r"), stored):
        got = function(source, train, 25)
        assert got.indices.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-9, atol=1e-12)


def test_several_rows_a_structure_from_zarr(tmp_path: Path) -> None:
    X = grouped(pool("clustered", 600, dim=16, dtype=np.float32))
    stored = zarr.create_array(tmp_path / "rows.zarr", data=X.values, chunks=(100, 16))
    other = Features(stored, X.owner, len(X))
    train = X.take([0, 5])
    for rule in RULES:
        assert run(rule, other, train, 12).indices.tolist() == run(rule, X, train, 12).indices.tolist()


def test_messages_say_what_to_do() -> None:
    with pytest.raises(SurveyorError) as caught:
        max_variance(pool("random"), np.zeros((3, 5)), 2)
    assert caught.value.expected
    assert "Features.empty(12)" in str(caught.value)
