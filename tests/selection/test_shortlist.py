"""Shortlists: what they guarantee, and how they report it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import KINDS, grouped, pool

from surveyor.errors import SelectionError
from surveyor.selection import (
    LCMD,
    Committee,
    FarthestPoint,
    MaxVariance,
    Random,
    Rule,
    Shortlist,
    TargetVariance,
    TopK,
)
from surveyor.types import Features, Stopped

NOISE = 1e-3


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 12),
    st.integers(0, 30),
    st.booleans(),
    st.sampled_from([MaxVariance(NOISE), TopK(NOISE)]),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 10**6),
)
def test_certain_picks_are_those_of_the_whole_pool(
    kind: str, k: int, more: int, multi: bool, rule: Rule, dtype: type, seed: int
) -> None:
    rows = pool(kind, 60, dim=6, seed=seed, dtype=dtype)
    known = pool(kind, 4, dim=6, seed=seed + 1, dtype=dtype)
    X = grouped(rows, seed) if multi else Features.one_row_each(np.concatenate([rows, known]))
    train = Features.one_row_each(known)
    found = Shortlist(rule, k + more, NOISE)(X, train, k)
    whole = rule(X, train, k)
    assert found.certain is not None
    certain = found.certain
    assert found.indices[:certain].tolist() == whole.indices[:certain].tolist()
    np.testing.assert_allclose(found.scores[:certain], whole.scores[:certain], rtol=1e-9)
    if k + more >= len(X):
        assert certain == len(found) == len(whole)
        assert found.stopped == whole.stopped


def test_a_pool_with_a_few_outstanding_structures_is_certain() -> None:
    rows = 0.01 * pool("random", 5000, dim=20, dtype=np.float32)
    rows[::100] *= 100
    X, train = Features.one_row_each(rows), Features.empty(20)
    found = Shortlist(MaxVariance(NOISE), 200, NOISE)(X, train, 15)
    assert found.certain == 15
    assert found.indices.tolist() == MaxVariance(NOISE)(X, train, 15).indices.tolist()
    assert found.stopped == Stopped.FILLED


def test_a_left_out_structure_ends_the_certainty() -> None:
    """After one pick the rest of the shortlist is worth nothing, and the pool still is."""
    X = np.zeros((30, 4))
    X[:10, 0] = np.linspace(2, 3, 10)  # one direction, large
    X[10:, 1:] = pool("random", 20, dim=3)
    found = Shortlist(MaxVariance(NOISE), 10, NOISE)(Features.one_row_each(X), Features.empty(4), 3)
    assert found.certain == 1
    assert set(found.indices.tolist()) <= set(range(10))


@pytest.mark.parametrize(
    "rule",
    [
        FarthestPoint(),
        LCMD(),
        Random(),
        TargetVariance(NOISE, sample=20),
        MaxVariance(NOISE, cost=np.ones(300)),
        FarthestPoint(cost=np.linspace(1, 2, 300), budget=9.0),
        LCMD(cost=np.linspace(1, 2, 300), budget=9.0),
        TargetVariance(NOISE, sample=20, cost=np.linspace(1, 2, 300), budget=9.0),
        Committee(np.random.default_rng(0).random(300)),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_every_rule_takes_a_shortlist_and_only_two_promise(rule: Rule, tmp_path: Path) -> None:
    rows = pool("clustered", 310, dim=8, dtype=np.float32)
    stored = zarr.create_array(tmp_path / "rows.zarr", data=rows[10:], chunks=(64, 8))
    X, train = Features.one_row_each(rows[10:]), Features.one_row_each(rows[:10])
    on_disk = Features(stored, X.owner, len(X))
    found, from_disk = (
        Shortlist(rule, 60, NOISE)(part, train, 6, rng=np.random.default_rng(1)) for part in (X, on_disk)
    )
    assert found.certain is None
    assert found.indices.tolist() == from_disk.indices.tolist()
    assert len(set(found.indices.tolist())) == len(found) > 0
    variances = TopK(NOISE)(X, train, 60).indices
    assert set(found.indices.tolist()) <= set(variances.tolist())
    whole = Shortlist(rule, 300, NOISE)(X, train, 6, rng=np.random.default_rng(1))
    assert whole.indices.tolist() == rule(X, train, 6, rng=np.random.default_rng(1)).indices.tolist()


def test_a_shortlist_shorter_than_the_picks_is_refused() -> None:
    X = Features.one_row_each(pool("random"))
    with pytest.raises(SelectionError, match="shortlist of 3 structures for 4 picks"):
        Shortlist(MaxVariance(), 3)(X, Features.empty(12), 4)
