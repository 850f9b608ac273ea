"""Every rule against its plain twin: the same picks, the same scores."""

from __future__ import annotations

import numpy as np
import pytest
from pools import KINDS, grouped, pool
from twins import (
    distance_score,
    greedy,
    herding_score,
    misfit_score,
    plain_lcmd,
    structures,
    target_score,
    ties,
    variance_score,
)

from surveyor.selection import (
    ByTurns,
    FarthestPoint,
    Herding,
    MaxVariance,
    MisfitVariance,
    TargetVariance,
    TopK,
    farthest,
    herding,
    lcmd,
    max_variance,
    target_variance,
    top_k,
)
from surveyor.types import Features, Selection

NOISE = 1e-3
DTYPES = (np.float64, np.float32)


def assert_same(selection: Selection, twin: tuple[list[int], list[float]], tolerance: float = 1e-10) -> None:
    assert selection.indices.tolist() == twin[0]
    np.testing.assert_allclose(selection.scores, twin[1], rtol=1e-8, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_train", [0, 5, 20])
def test_max_variance(kind: str, n_train: int, dtype: type) -> None:
    rows = pool(kind, 100 + n_train, dtype=dtype)
    X, train = rows[n_train:], rows[:n_train]
    blocks = structures(Features.one_row_each(X))
    scale = float((X.astype(np.float64) ** 2).sum(axis=1).max())
    labelled = structures(Features.one_row_each(train))
    twin = greedy(blocks, labelled, 40, variance_score(blocks, NOISE), ties(blocks))
    assert_same(max_variance(X, train, 40, noise=NOISE), twin, 1e-10 * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_max_variance_of_structures_with_several_rows(kind: str, dtype: type) -> None:
    X = grouped(pool(kind, 120, dtype=dtype))
    train = grouped(pool(kind, 10, seed=1, dtype=dtype), seed=1)
    blocks = structures(X)
    twin = greedy(blocks, structures(train), 20, variance_score(blocks, NOISE), ties(blocks, NOISE))
    assert_same(MaxVariance(noise=NOISE)(X, train, 20), twin, 1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_max_variance_per_cost(dtype: type) -> None:
    X, train = pool("random", 60, dtype=dtype), pool("random", 4, seed=1, dtype=dtype)
    cost = np.random.default_rng(2).uniform(1, 5, size=60)
    for features in (Features.one_row_each(X), grouped(X)):
        blocks, price = structures(features), cost[: len(features)]
        labelled = structures(Features.one_row_each(train))
        twin = greedy(blocks, labelled, 20, variance_score(blocks, NOISE, price), ties(blocks, NOISE))
        got = MaxVariance(noise=NOISE, cost=price)(features, Features.one_row_each(train), 20)
        assert_same(got, twin, 1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_top_k(kind: str, dtype: type) -> None:
    X, train = pool(kind, dtype=dtype), pool(kind, 6, seed=1, dtype=dtype)
    labelled = structures(Features.one_row_each(train))
    blocks = structures(Features.one_row_each(X))
    score = variance_score(blocks, NOISE)
    assert_same(
        top_k(X, train, 25, noise=NOISE), greedy(blocks, labelled, 25, score, ties(blocks), conditioned=False)
    )
    features = grouped(X)
    blocks = structures(features)
    twin = greedy(blocks, labelled, 15, variance_score(blocks, NOISE), ties(blocks, NOISE), conditioned=False)
    assert_same(TopK(noise=NOISE)(features, Features.one_row_each(train), 15), twin, 1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_train", [0, 5])
def test_farthest(kind: str, n_train: int, dtype: type) -> None:
    rows = pool(kind, 90 + n_train, dtype=dtype)
    X, train = rows[n_train:], rows[:n_train]
    labelled = structures(Features.one_row_each(train))
    scale = float((X.astype(np.float64) ** 2).sum(axis=1).max())
    for features in (Features.one_row_each(X), grouped(X)):
        blocks = structures(features)
        twin = greedy(blocks, labelled, 20, distance_score(blocks), 1e-12)
        assert_same(FarthestPoint()(features, Features.one_row_each(train), 20), twin, 1e-10 * scale)


def test_farthest_per_cost() -> None:
    X, train = pool("random", 60), pool("random", 4, seed=1)
    cost = np.random.default_rng(2).uniform(1, 5, size=60)
    blocks = structures(Features.one_row_each(X))
    twin = greedy(blocks, structures(Features.one_row_each(train)), 20, distance_score(blocks, cost), 1e-12)
    assert_same(farthest(X, train, 20, cost=cost), twin)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["random", "low rank", "badly scaled", "clustered"])
@pytest.mark.parametrize("n_train", [0, 7, 300])
def test_lcmd(kind: str, n_train: int, dtype: type) -> None:
    rows = pool(kind, 400 + n_train, dim=20, dtype=dtype)
    X, train = rows[n_train:], rows[:n_train]
    scale = float((X.astype(np.float64) ** 2).sum(axis=1).max())
    assert_same(lcmd(X, train, 40), plain_lcmd(X, train, 40), 1e-10 * scale)
    cost = np.random.default_rng(3).uniform(1, 5, size=400)
    assert_same(lcmd(X, train, 40, cost=cost), plain_lcmd(X, train, 40, cost), 1e-10 * scale)
    got, twin = lcmd(X, train, 40, cost=cost, budget=50.0), plain_lcmd(X, train, 40, cost, 50.0)
    assert 0 < len(twin[0]) < 40
    assert_same(got, twin, 1e-10 * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_target_variance(kind: str, dtype: type) -> None:
    X, train = pool(kind, 50, dtype=dtype), pool(kind, 6, seed=1, dtype=dtype)
    target = pool(kind, 9, seed=2, dtype=dtype)
    labelled = structures(Features.one_row_each(train))
    scale = float((X.astype(np.float64) ** 2).sum(axis=1).max())
    for features in (Features.one_row_each(X), grouped(X)):
        blocks = structures(features)
        score = target_score(blocks, target.astype(np.float64), NOISE)
        twin = greedy(blocks, labelled, 8, score, 1e-11)
        rule = TargetVariance(noise=NOISE, target=Features.one_row_each(target))
        got = rule(features, Features.one_row_each(train), 8, rng=np.random.default_rng(0))
        assert_same(got, twin, 1e-9 * max(1.0, scale))


def test_target_variance_per_cost() -> None:
    X, train, target = pool("random", 60), pool("random", 4, seed=1), pool("random", 9, seed=3)
    cost = np.random.default_rng(2).uniform(1, 5, size=60)
    blocks, labelled = structures(Features.one_row_each(X)), structures(Features.one_row_each(train))
    twin = greedy(blocks, labelled, 20, target_score(blocks, target, NOISE, cost), 1e-12)
    assert twin[0] != greedy(blocks, labelled, 20, target_score(blocks, target, NOISE), 1e-12)[0]
    assert_same(target_variance(X, train, target, 20, NOISE, cost=cost), twin)


def test_many_targets_are_reduced_without_changing_the_gains() -> None:
    X, train = pool("random", 40, dim=6), pool("random", 3, dim=6, seed=1)
    target = pool("clustered", 50, dim=6, seed=2)  # more rows than columns
    blocks = structures(Features.one_row_each(X))
    labelled = structures(Features.one_row_each(train))
    twin = greedy(blocks, labelled, 6, target_score(blocks, target, NOISE), 1e-12)
    assert_same(target_variance(X, train, target, 6, noise=NOISE), twin)


def test_conditioning_a_block_equals_conditioning_its_rows() -> None:
    """A structure that owns all rows of two others says what both say."""
    rows = pool("random", 30)
    three = Features(rows[:6], np.array([0, 0, 1, 1, 2, 2]), 3)
    apart = Features.one_row_each(rows[:6])
    for train in (three.take([0, 1]), apart.take([0, 1, 2, 3])):
        got = MaxVariance(noise=NOISE)(Features.one_row_each(rows[6:]), train, 10)
        blocks = structures(Features.one_row_each(rows[6:]))
        twin = greedy(blocks, structures(train), 10, variance_score(blocks, NOISE), ties(blocks))
        assert_same(got, twin)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["random", "badly scaled", "clustered"])
@pytest.mark.parametrize("n_train", [0, 4])
def test_herding(kind: str, n_train: int, dtype: type) -> None:
    rows = pool(kind, 36 + n_train, dtype=dtype)
    X, train = rows[n_train:], structures(Features.one_row_each(rows[:n_train]))
    for features in (Features.one_row_each(X), grouped(X)):
        blocks = structures(features)
        twin = greedy(blocks, train, 8, herding_score(blocks, 5), 1e-9)
        assert_same(Herding(components=5)(features, Features.one_row_each(rows[:n_train]), 8), twin, 1e-7)


def test_herding_follows_the_sizes_of_clusters() -> None:
    """Of two clusters the one of three quarters of the pool gets three quarters of the picks."""
    rng = np.random.default_rng(0)
    centres = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    X = centres[np.repeat([0, 1], [60, 20])] + 0.01 * rng.standard_normal((80, 3))
    picks = herding(X, np.zeros((0, 3)), 16).indices
    assert (picks < 60).sum() == 12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("misfit", "power"), [(0.1, 2.0), (1.0, 1.0)])
def test_misfit_variance(kind: str, misfit: float, power: float, dtype: type) -> None:
    X, train = pool(kind, 50, dtype=dtype), pool(kind, 6, seed=1, dtype=dtype)
    target = pool(kind, 9, seed=2, dtype=dtype)
    labelled = structures(Features.one_row_each(train))
    scale = float((X.astype(np.float64) ** 2).sum(axis=1).max())
    for features in (Features.one_row_each(X), grouped(X)):
        blocks = structures(features)
        twin = greedy(blocks, labelled, 8, misfit_score(blocks, target, NOISE, misfit, power), 1e-11)
        rule = MisfitVariance(noise=NOISE, target=Features.one_row_each(target), misfit=misfit, power=power)
        assert_same(rule(features, Features.one_row_each(train), 8), twin, 1e-9 * max(1.0, scale))


def test_without_misfit_it_is_target_variance() -> None:
    X, train = pool("clustered", 60), pool("clustered", 5, seed=1)
    without = MisfitVariance(misfit=0.0)(Features.one_row_each(X), Features.one_row_each(train), 20)
    plain = TargetVariance()(Features.one_row_each(X), Features.one_row_each(train), 20)
    assert without.indices.tolist() == plain.indices.tolist()
    np.testing.assert_array_equal(without.scores, plain.scores)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_two_rules_by_turns(share: float) -> None:
    X, train, target = pool("random", 40), pool("random", 4, seed=1), pool("random", 9, seed=3)
    blocks, labelled = structures(Features.one_row_each(X)), structures(Features.one_row_each(train))
    scores = target_score(blocks, target, NOISE), herding_score(blocks, 20)

    def turn(seen: list[np.ndarray]) -> np.ndarray:
        number = len(seen) - len(train) + 1
        first = int(number * share + 1e-9) > int((number - 1) * share + 1e-9)
        return scores[0 if first else 1](seen)

    twin = greedy(blocks, labelled, 15, turn, 1e-9)
    rule = ByTurns(noise=NOISE, target=Features.one_row_each(target), share=share)
    assert_same(rule(Features.one_row_each(X), Features.one_row_each(train), 15), twin, 1e-8)
