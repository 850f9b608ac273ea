"""What every rule promises, on data that hypothesis makes up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import KINDS, by_norm, grouped, pool
from twins import greedy, structures, ties, variance_score

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
    target_variance,
    top_k,
)
from surveyor.types import Features, Selection, Selector, Stopped

RULES: dict[str, Selector] = {
    "max-variance": MaxVariance(noise=1e-3),
    "top-k": TopK(noise=1e-3),
    "farthest": FarthestPoint(),
    "lcmd": LCMD(),
    "target-variance": TargetVariance(noise=1e-3, sample=10),
    "herding": Herding(components=4, sample=20),
    "misfit-variance": MisfitVariance(noise=1e-3, sample=10),
    "by-turns": ByTurns(noise=1e-3, sample=10),
    "random": Random(),
}
each_rule = pytest.mark.parametrize("name", [*RULES, "committee"])
seeds = st.integers(0, 10**6)
kinds = st.sampled_from(KINDS)
dtypes = st.sampled_from([np.float32, np.float64])
quick = settings(max_examples=25, deadline=None)


def run(name: str, X: Features, train: Features, k: int) -> Selection:
    rule = Committee(by_norm(X)) if name == "committee" else RULES[name]
    return rule(X, train, k, rng=np.random.default_rng(7))


def features(kind: str, n: int, seed: int, dtype: type, multi: bool) -> Features:
    rows = pool(kind, n, dim=6, seed=seed, dtype=dtype)
    return grouped(rows, seed) if multi else Features.one_row_each(rows)


@each_rule
@quick
@given(kinds, st.integers(1, 40), st.integers(1, 50), st.booleans(), dtypes, seeds)
def test_picks_are_distinct_and_as_many_as_asked(
    name: str, kind: str, n: int, k: int, multi: bool, dtype: type, seed: int
) -> None:
    X, train = features(kind, n, seed, dtype, multi), features(kind, 3, seed + 1, dtype, multi)
    got = run(name, X, train, k)
    assert len(got) == len(got.scores) == min(k, len(X))
    assert len(set(got.indices.tolist())) == len(got)
    assert got.stopped == (Stopped.EXHAUSTED if k >= len(X) else Stopped.FILLED)
    assert np.isfinite(got.scores).all()
    assert (got.scores >= 0).all()


@each_rule
@quick
@given(kinds, st.integers(2, 30), st.booleans(), dtypes, seeds)
def test_picks_for_k_are_a_prefix_of_those_for_more(
    name: str, kind: str, n: int, multi: bool, dtype: type, seed: int
) -> None:
    X, train = features(kind, n, seed, dtype, multi), features(kind, 3, seed + 1, dtype, multi)
    everything = run(name, X, train, len(X))
    for k in {1, len(X) // 2, len(X) - 1} - {0}:
        part = run(name, X, train, k)
        assert part.indices.tolist() == everything.indices[:k].tolist()
        np.testing.assert_array_equal(part.scores, everything.scores[:k])


@each_rule
@quick
@given(kinds, st.integers(2, 20), st.integers(1, 8), st.booleans(), dtypes, seeds)
def test_copies_of_labelled_structures_and_zero_rows_come_last(
    name: str, kind: str, n: int, n_train: int, multi: bool, dtype: type, seed: int
) -> None:
    fresh, train = features(kind, n, seed, dtype, multi), features(kind, n_train, seed + 1, dtype, multi)
    nothing = Features.one_row_each(np.zeros((2, 6), dtype=dtype))
    everything = Features.concatenate([nothing, train, fresh])
    order = np.random.default_rng(seed).permutation(len(everything))
    known = {row.tobytes() for row in train.values}
    novel = np.array(
        [
            any(row.any() and row.tobytes() not in known for row in block)
            for block in structures_of(everything.take(order))
        ]
    )
    got = run(name, everything.take(order), train, len(everything))
    first = got.indices[: novel.sum()]
    assert novel[first].sum() >= distinct(everything.take(order), novel)
    if name in ("top-k", "random"):  # these do not take picks as labelled
        assert novel[first].all()


def structures_of(X: Features) -> list[np.ndarray]:
    return [X.values[X.owner == s] for s in range(len(X))]


def distinct(X: Features, novel: np.ndarray) -> int:
    """Fewest novel picks there can be before any copy: novel structures that no other makes into a copy."""
    blocks = structures_of(X)
    rows = [row.tobytes() for s in np.flatnonzero(novel) for row in blocks[s]]
    return sum(
        novel[s] and all(rows.count(row.tobytes()) == 1 for row in block) for s, block in enumerate(blocks)
    )


@pytest.mark.parametrize("name", ["max-variance", "top-k", "farthest", "lcmd", "committee"])
@quick
@given(st.sampled_from(["random", "badly scaled", "clustered"]), st.booleans(), dtypes, seeds)
def test_the_order_of_the_pool_does_not_matter(
    name: str, kind: str, multi: bool, dtype: type, seed: int
) -> None:
    X, train = features(kind, 30, seed, dtype, multi), features(kind, 3, seed + 1, dtype, multi)
    order = np.random.default_rng(seed).permutation(len(X))
    straight = run(name, X, train, 12)
    shuffled = run(name, X.take(order), train, 12)
    assert order[shuffled.indices].tolist() == straight.indices.tolist()


@pytest.mark.parametrize("name", ["target-variance", "misfit-variance", "by-turns", "herding", "random"])
@quick
@given(st.sampled_from(["random", "badly scaled", "clustered"]), st.booleans(), dtypes, seeds)
def test_what_is_drawn_from_the_pool_does_not_depend_on_its_order(
    name: str, kind: str, multi: bool, dtype: type, seed: int
) -> None:
    """Structures that are drawn (targets, random picks) are drawn by rank."""
    X, train = features(kind, 30, seed, dtype, multi), features(kind, 3, seed + 1, dtype, multi)
    order = np.random.default_rng(seed).permutation(len(X))
    rank = np.random.default_rng(seed + 1).permutation(len(X))
    straight, shuffled = (
        RULES[name](part, train, 8, rng=np.random.default_rng(7), rank=own)
        for part, own in ((X, rank), (X.take(order), rank[order]))
    )
    assert order[shuffled.indices].tolist() == straight.indices.tolist()


@pytest.mark.parametrize(
    "rule",
    [
        lambda X, T, ids: committee(X, T, (X**2).sum(axis=1), 9, ids=ids),
        lambda X, T, ids: max_variance(X, T, 9, ids=ids),
        lambda X, T, ids: top_k(X, T, 9, ids=ids),
        lambda X, T, ids: farthest(X, T, 9, ids=ids),
        lambda X, T, ids: lcmd(X, T, 9, ids=ids),
        lambda X, T, ids: herding(X, T, 9, ids=ids),
        lambda X, T, ids: target_variance(X, T, T, 9, ids=ids),
    ],
    ids=["committee", "max-variance", "top-k", "farthest", "lcmd", "herding", "target-variance"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_go_to_the_lowest_id_whatever_the_order(rule: Callable[..., Selection], dtype: type) -> None:
    X = np.repeat(pool("random", 8, dim=6, dtype=dtype), 3, axis=0)  # every row three times
    train = pool("random", 2, dim=6, seed=1, dtype=dtype)
    ids = [f"{number:02d}" for number in np.random.default_rng(3).permutation(len(X))]
    order = np.random.default_rng(4).permutation(len(X))
    straight = [ids[i] for i in rule(X, train, ids).indices]
    shuffled = [ids[order[i]] for i in rule(X[order], train, [ids[i] for i in order]).indices]
    assert straight == shuffled


def test_ties_go_to_the_lowest_index_without_ids() -> None:
    X = np.concatenate([np.eye(4), np.eye(4)])
    for rule in (max_variance, farthest, lcmd, top_k):
        assert rule(X, np.zeros((0, 4)), 1).indices.tolist() == [0]
    assert max_variance(X, np.zeros((0, 4)), 8).indices.tolist() == list(range(8))


@settings(max_examples=60, deadline=None)
@given(
    kinds,
    st.integers(1, 60),
    st.integers(0, 10),
    st.integers(1, 20),
    st.sampled_from([1e-5, 1e-3, 1.0]),
    dtypes,
    seeds,
)
def test_lazy_is_plain_greedy(
    kind: str, n: int, n_train: int, k: int, noise: float, dtype: type, seed: int
) -> None:
    X = pool(kind, n, dim=6, seed=seed, dtype=dtype)
    train = pool(kind, n_train, dim=6, seed=seed + 1, dtype=dtype)
    blocks = structures(Features.one_row_each(X))
    labelled = structures(Features.one_row_each(train))
    twin = greedy(blocks, labelled, k, variance_score(blocks, noise), ties(blocks))
    got = max_variance(X, train, k, noise=noise)
    assert got.indices.tolist() == twin[0]


@quick
@given(kinds, st.booleans(), dtypes, seeds)
def test_scores_of_max_variance_and_farthest_never_rise(
    kind: str, multi: bool, dtype: type, seed: int
) -> None:
    X, train = features(kind, 30, seed, dtype, multi), features(kind, 3, seed + 1, dtype, multi)
    slack = 1e-9 * float((X.values.astype(np.float64) ** 2).sum(axis=1).max())
    for name, unit in (("max-variance", 1e3), ("farthest", 1.0)):
        scores = run(name, X, train, 15).scores
        if kind != "duplicated":  # copies that were set aside come later with what they had
            assert (np.diff(scores) <= slack * unit).all()
