"""What makes the fast rules exact (bounds that hold) and fast (rows that are left alone)."""

from __future__ import annotations

import numpy as np
import pytest
from pools import KINDS, grouped, pool

from surveyor.linalg import squared_norms
from surveyor.posterior import Posterior
from surveyor.selection.budget import Budget
from surveyor.selection.distance import DistanceBounds
from surveyor.selection.gains import Gains, Targets
from surveyor.selection.lazy import Lazy
from surveyor.selection.novelty import Novelty
from surveyor.selection.pool import Pool
from surveyor.selection.projection import Projection
from surveyor.selection.residual import Directions, VarianceBounds
from surveyor.selection.rounding import relative_error
from surveyor.selection.rule import Request, greedy
from surveyor.types import Features

NOISE = 1e-4


def everything(view: Pool) -> np.ndarray:
    return np.arange(view.n_structures)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [12, 512])
def test_single_precision_variances_err_less_than_derived(kind: str, dim: int) -> None:
    X = Features.one_row_each(pool(kind, 300, dim=dim, dtype=np.float32))
    train = Features.one_row_each(pool(kind, 150, dim=dim, seed=1, dtype=np.float32))
    view, norms = Pool(X), squared_norms(X.values)
    score = VarianceBounds(view, Directions(train.values, NOISE, view.dtype))
    score.tighten(everything(view), -np.inf)
    exact = Posterior.fit(train, noise=NOISE).variance(X.values)
    loosest = relative_error(dim, np.float32) * norms
    rounding = relative_error(dim, np.float64) * norms
    assert (score.row_bound >= exact - rounding).all()
    assert (score.row_bound <= exact + 2 * loosest + rounding).all()


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_distances_err_less_than_derived(kind: str) -> None:
    X = Features.one_row_each(pool(kind, 300, dim=64, dtype=np.float32))
    train = Features.one_row_each(pool(kind, 50, dim=64, seed=1, dtype=np.float32))
    view, norms = Pool(X), squared_norms(X.values)
    score = DistanceBounds(view, train)
    score.tighten(everything(view), -np.inf)
    rows, centres = X.values.astype(np.float64), train.values.astype(np.float64)
    exact = ((rows[:, None] - centres) ** 2).sum(axis=2).min(axis=1)
    assert (score.row_bound >= exact).all()
    assert (
        score.row_bound <= exact + relative_error(64, np.float32) * (norms + (centres**2).sum(1).max())
    ).all()


def test_half_tightened_bounds_hold() -> None:
    X = grouped(pool("clustered", 400, dim=150, dtype=np.float32))
    train = Features.one_row_each(pool("clustered", 140, dim=150, seed=1, dtype=np.float32))
    view = Pool(X)
    score = VarianceBounds(view, Directions(train.values, NOISE, view.dtype))
    exact = score.exact(everything(view))[0].copy()
    lazy = VarianceBounds(view, Directions(train.values, NOISE, view.dtype))
    level = float(np.quantile(exact, 0.9))
    lazy.tighten(everything(view), level)
    assert (lazy.bounds >= exact - 1e-6).all()
    assert (lazy.absorbed < lazy.n_vectors).any()  # some rows dropped out early
    done = lazy.absorbed[view.starts[:-1]] == lazy.n_vectors
    assert (done | (lazy.bounds <= level)).all()
    assert done.any()


def test_added_directions_leave_the_posterior_covariance() -> None:
    rows = pool("random", 30)
    directions = Directions(rows[:5], NOISE, np.float32)
    for block in (rows[5:6], rows[6:10], np.repeat(rows[10:11], 3, axis=0), rows[:1], np.zeros((2, 12))):
        directions.add(block)
    seen = np.concatenate([rows[:10], np.repeat(rows[10:11], 3, axis=0), rows[:1]])
    posterior = Posterior.fit(Features.one_row_each(seen), noise=NOISE)
    np.testing.assert_allclose(directions.covariance(rows), posterior.covariance(rows, rows), atol=1e-10)
    np.testing.assert_allclose(directions.working, directions.exact, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_picks_do_not_let_the_numbers_drift(kind: str) -> None:
    """Directions and gains that grew pick by pick, against those of all picks labelled from the start."""
    rows = pool(kind, 400, dim=24)
    X, picks, target = Features.one_row_each(rows[:100]), rows[100:], Features.one_row_each(rows[:30])
    grown = Directions(np.zeros((0, 24)), NOISE, np.float64)
    gains = Gains(Pool(Features.one_row_each(rows)), Targets(Features.empty(24), target, NOISE))
    for number, row in enumerate(picks, start=100):
        grown.add(row[None])
        gains.take(number)
    exact = Posterior.fit(Features.one_row_each(picks), noise=NOISE).variance(X.values)
    norms = squared_norms(X.values)
    found = norms - ((X.values @ grown.exact.T) ** 2).sum(axis=1)
    assert (np.abs(found - exact) <= relative_error(24, np.float64) * norms).all()
    fresh = Gains(Pool(Features.one_row_each(rows)), Targets(Features.one_row_each(picks), target, NOISE))
    (value, error), (expected, _) = gains.scores(), fresh.scores()
    assert (np.abs(value - expected) <= 2 * error).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [5, 60])
def test_the_projection_misses_no_closer_row(kind: str, dtype: type, dim: int) -> None:
    X = Features.one_row_each(pool(kind, 500, dim=dim, dtype=dtype))
    projection = Projection(Pool(X))
    rows = X.values.astype(np.float64)
    rng = np.random.default_rng(3)
    for centre in rows[:20]:
        exact = ((rows - centre) ** 2).sum(axis=1)
        distance = exact * rng.uniform(0.5, 1.5, size=len(exact))
        near = projection.closer(centre, distance)
        assert np.isin(np.flatnonzero(exact < distance), near).all()


def test_the_projection_spares_most_rows_of_a_clustered_pool() -> None:
    X = Features.one_row_each(pool("clustered", 2000, dim=60, dtype=np.float32))
    projection = Projection(Pool(X))
    rows = X.values.astype(np.float64)
    near = projection.closer(rows[0], np.full(len(rows), 0.01))
    assert len(near) < 1000


def test_lazy_selection_absorbs_a_fraction_of_what_plain_selection_does() -> None:
    spectrum = np.arange(1, 65) ** -0.75
    size = np.exp(0.5 * np.random.default_rng(0).standard_normal((20_200, 1)))
    rows = (size * pool("random", 20_200, dim=64) * spectrum).astype(np.float32)
    X, train = Features.one_row_each(rows[200:]), Features.one_row_each(rows[:10])
    view = Pool(X)
    score = VarianceBounds(view, Directions(train.values, NOISE, view.dtype))
    greedy(Lazy(score), Request.of(X, train, 20), Budget())
    assert score.absorbed.mean() < 0.5 * score.n_vectors


def test_many_copies_are_found_in_few_sweeps() -> None:
    known = pool("random", 4)
    novelty = Novelty(known)
    view = Pool(
        Features.one_row_each(np.concatenate([np.repeat(known, 50, axis=0), pool("random", 9, seed=1)]))
    )
    among = everything(view)
    assert novelty.copies(view, among, 0).tolist() == list(range(200))
    assert novelty.copies(view, among, 5).size == 200
    assert novelty.copies(view, among, 5).tolist() == [5]
    assert novelty.copies(view, among, 5).size == 200
