"""Target-variance with picks that are foreseen: bounds that hold, and the plain rule's picks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import KINDS, pool
from twins import greedy, structures, target_score

from surveyor.selection.ahead import Ahead
from surveyor.selection.budget import Budget
from surveyor.selection.ceilings import MARK, Ceilings
from surveyor.selection.gains import Gains, Targets
from surveyor.selection.pool import Pool
from surveyor.selection.rule import Request
from surveyor.selection.rule import greedy as pick
from surveyor.types import Features, Selection

kinds = st.sampled_from(KINDS)
dtypes = st.sampled_from([np.float32, np.float64])
seeds = st.integers(0, 10**6)
noises = st.sampled_from([1e-5, 1e-3, 1.0])


def targets_of(train: np.ndarray, target: np.ndarray, noise: float) -> Targets:
    return Targets(Features.one_row_each(train), Features.one_row_each(target), noise)


@settings(max_examples=80, deadline=None)
@given(kinds, st.integers(0, 12), st.integers(1, 20), st.integers(1, 20), noises, dtypes, seeds)
def test_no_gain_exceeds_its_ceiling(
    kind: str, n_train: int, n_target: int, n_labels: int, noise: float, dtype: type, seed: int
) -> None:
    """Whatever is labelled, in any order: the gain of the plain rule, which may rise, stays below."""
    X = pool(kind, 60, dim=8, seed=seed, dtype=dtype)
    train, target = pool(kind, n_train, 8, seed + 1, dtype), pool(kind, n_target, 8, seed + 2, dtype)
    view, rng = Pool(Features.one_row_each(X)), np.random.default_rng(seed)
    multiple, weight = rng.uniform(1, 3, size=60), rng.uniform(0.2, 1, size=60)
    exact = Gains(view, targets_of(train, target, noise), weight, multiple)
    ceilings = Ceilings(view, targets_of(train, target, noise), weight, multiple)
    assert (ceilings.values() >= exact.value - exact.error).all()
    labels, values, errors = [], [], []
    for structure in rng.choice(60, size=n_labels, replace=False):
        values.append(exact.value.copy())
        errors.append(exact.error.copy())
        labels.append(exact.label(int(structure)))
    levels = [float(np.quantile(value - error, 0.8)) for value, error in zip(values, errors, strict=True)]
    reached, marks = ceilings.sweep(labels, levels)
    assert (marks[n_labels].values() >= exact.value - exact.error).all()
    for number in range(MARK, n_labels, MARK):
        assert (marks[number].values() >= values[number] - errors[number]).all()
    for number, (value, error, level) in enumerate(zip(values, errors, levels, strict=True)):
        assert (value + error < level)[reached > number].all()


def test_ceilings_tell_most_of_a_pool_from_its_best() -> None:
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((2000, 64)) * np.arange(1, 65) ** -0.75).astype(np.float32)
    ceilings = Ceilings(Pool(Features.one_row_each(X)), targets_of(X[:40], X[100:200], 1e-4))
    exact = Gains(Pool(Features.one_row_each(X)), targets_of(X[:40], X[100:200], 1e-4))
    assert np.median(ceilings.values()[40:] / exact.value[40:]) < 1.05


def ahead(
    X: np.ndarray, train: np.ndarray, target: np.ndarray, k: int, noise: float, cost: np.ndarray | None = None
) -> tuple[Selection, Ahead]:
    budget = Budget.of(cost, None, len(X))
    features, labelled = Features.one_row_each(X), Features.one_row_each(train)
    request = Request.of(features, labelled, k)
    request = Request(features, labelled, k, request.rng, request.rank, budget.weight)
    score = Ahead(request, targets_of(train, target, noise), members=4, ahead=6)
    return pick(score, request, budget), score


@settings(max_examples=80, deadline=None)
@given(
    kinds, st.integers(1, 60), st.integers(0, 10), st.integers(1, 20), st.booleans(), noises, dtypes, seeds
)
def test_picks_are_those_of_the_plain_rule(
    kind: str, n: int, n_train: int, k: int, priced: bool, noise: float, dtype: type, seed: int
) -> None:
    """Against the twin, which takes each mean variance from its own inverse; of copies the first wins."""
    X, train = pool(kind, n, 6, seed, dtype), pool(kind, n_train, 6, seed + 1, dtype)
    target = pool(kind, 7, 6, seed + 2, dtype).astype(np.float64)
    cost = np.random.default_rng(seed).uniform(1, 5, size=n) if priced else None
    blocks = structures(Features.one_row_each(X))
    score = target_score(blocks, target, noise, 1.0 if cost is None else cost)
    scale = max(1.0, float((X.astype(np.float64) ** 2).sum(axis=1).max()))
    twin = greedy(blocks, structures(Features.one_row_each(train)), k, score, 1e-13 * scale)
    got, _ = ahead(X, train, target, k, noise, cost)
    equal = [a == b for a, b in zip(got.indices.tolist(), twin[0], strict=True)]
    first = equal.index(False) if False in equal else len(equal)
    # past the twin's own rounding, which its inverses blow up, there is nothing to compare
    np.testing.assert_allclose(got.scores[:first], twin[1][:first], rtol=1e-6, atol=1e-9 * scale)
    assert first == len(equal) or twin[1][first] < 1e-9 * scale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_picks_share_a_pass(dtype: type) -> None:
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((3000, 64)) * np.arange(1, 65) ** -0.75).astype(dtype)
    train, target = X[:20], X[20:120]
    features = Features.one_row_each(X)
    request = Request.of(features, Features.one_row_each(train), 60)
    score = Ahead(request, targets_of(train, target, 1e-2), members=300)
    got = pick(score, request, Budget())
    plain = Gains(request.view, targets_of(train, target, 1e-2))
    assert got.indices.tolist() == pick(plain, request, Budget()).indices.tolist()
    assert score.passes < 30


def test_a_pick_that_was_not_foretold_starts_anew() -> None:
    """As by turns with another rule: what is labelled is not what this rule would have labelled."""
    X, train, target = pool("random", 200, 12), pool("random", 5, 12, 1), pool("random", 9, 12, 2)
    request = Request.of(Features.one_row_each(X), Features.one_row_each(train), 1)
    score = Ahead(request, targets_of(train, target, 1e-3), members=10)
    plain = Gains(request.view, targets_of(train, target, 1e-3))
    allowed = np.ones(200, dtype=bool)
    for number in range(40):
        found, value = score.best(allowed)
        wanted, expected = plain.best(allowed)
        assert sorted(found) == sorted(wanted)
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        structure = int(found[0]) if number % 3 else int(np.flatnonzero(allowed)[0])
        score.take(structure)
        plain.take(structure)
        allowed[structure] = False
        if number == 20:
            allowed[:10] = True  # what was set aside comes back


def test_a_pool_that_nothing_tells_apart_is_scored_as_a_whole() -> None:
    X = np.zeros((9000, 3))
    X[:, 2] = 1.0  # the targets learn nothing from any
    got, _ = ahead(X, np.zeros((0, 3)), np.eye(3)[:2], 3, 1e-3)
    assert got.indices.tolist() == [0, 1, 2]
