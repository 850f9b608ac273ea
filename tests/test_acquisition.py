"""One batch: candidates, picks, and the numbers that go with them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from conftest import rattled
from surveyor.acquisition import Featurised, acquire, featurise
from surveyor.calibration import KnownErrors, assign_folds
from surveyor.errors import FeatureError, SelectionError
from surveyor.features import Activations
from surveyor.features.scaling import unit_mean_square
from surveyor.posterior import Posterior
from surveyor.potentials.mace import MacePotential
from surveyor.selection import (
    LCMD,
    RULES,
    Committee,
    Given,
    MaxVariance,
    Random,
    Shortlist,
    TargetVariance,
    make_rule,
    rules_that_take,
)
from surveyor.structures import structure_id
from surveyor.types import Features, Selection, Selector, Stopped


def named(values: np.ndarray, prefix: str = "p") -> Featurised:
    return Featurised(Features.one_row_each(values), tuple(f"{prefix}{i}" for i in range(len(values))))


def test_std_is_that_of_conditioning_pick_after_pick() -> None:
    rng = np.random.default_rng(0)
    pool, train = named(rng.normal(size=(40, 12))), named(rng.normal(size=(5, 12)), "t")
    batch = acquire(pool, train, 10, lambda _: MaxVariance(noise=1e-3), noise=1e-3, seed=0)
    scaled_pool, scaled_train = unit_mean_square(pool.features, train.features)
    posterior = Posterior.fit(scaled_train, noise=1e-3)
    for pick in batch.picks:
        row = scaled_pool.take([pick.index])
        assert pick.std == pytest.approx(np.sqrt(posterior.variance(row.values)[0]), rel=1e-8)
        posterior = posterior.condition(row)
    assert [pick.rank for pick in batch.picks] == list(range(10))


def test_nearest_is_the_labelled_structure_of_largest_cosine() -> None:
    train = named(np.eye(3), "t")
    pool = named(np.array([[9.0, 1.0, 0.0], [0.1, 0.0, 2.0]]))
    batch = acquire(pool, train, 2, lambda _: Random(), noise=1e-3, seed=0)
    nearest = {pick.index: (pick.nearest, pick.similarity) for pick in batch.picks}
    assert nearest[0] == ("t0", pytest.approx(9 / np.hypot(9, 1)))
    assert nearest[1] == ("t2", pytest.approx(2 / np.hypot(2, 0.1)))


def test_candidates_leave_out_repeats_labelled_and_excluded() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6, 4))
    pool = Featurised(Features.one_row_each(values), ("a", "b", "a", "c", "d", "e"))
    train = Featurised(Features.one_row_each(values[1:2]), ("b",))
    batch = acquire(pool, train, 3, lambda _: Random(), noise=1e-3, seed=0, exclude=["e"])
    assert sorted(batch.indices) == [0, 3, 4]
    assert (batch.n_pool, batch.n_duplicates, batch.n_labelled_in_pool) == (6, 1, 2)
    with pytest.raises(SelectionError, match="n = 4 picks, but the pool has 3 candidates"):
        acquire(pool, train, 4, lambda _: Random(), noise=1e-3, seed=0, exclude=["e"])
    with pytest.raises(SelectionError, match="no candidate is left"):
        acquire(pool, pool, 1, lambda _: Random(), noise=1e-3, seed=0)


def test_the_order_of_the_pool_does_not_matter_where_structures_tie() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=(8, 4)), 3, axis=0)  # every row three times
    names = tuple(f"p{number:02d}" for number in np.random.default_rng(2).permutation(24))
    train = named(np.random.default_rng(3).normal(size=(2, 4)), "t")
    order = np.random.default_rng(4).permutation(24)
    shuffled = Featurised(Features.one_row_each(values[order]), tuple(names[i] for i in order))
    for rule in (MaxVariance(noise=1e-3), TargetVariance(noise=1e-3, sample=6), LCMD(), Random()):
        picks = [
            [pick.id for pick in acquire(pool, train, 7, lambda _, r=rule: r, noise=1e-3, seed=5).picks]
            for pool in (Featurised(Features.one_row_each(values), names), shuffled)
        ]
        assert picks[0] == picks[1]


def test_costs_and_disagreements_are_of_the_pool_not_of_the_candidates() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6, 4))
    pool = Featurised(Features.one_row_each(values), ("a", "b", "a", "c", "d", "e"))
    train = Featurised(Features.one_row_each(values[1:2]), ("b",))
    disputed = np.array([0.0, 9.0, 8.0, 1.0, 3.0, 2.0])
    batch = acquire(
        pool, train, 3, lambda given: Committee(given.disagreement), noise=1e-3, seed=0, disagreement=disputed
    )
    assert batch.indices == [4, 5, 3]
    np.testing.assert_array_equal(batch.scores, [3.0, 2.0, 1.0])
    cost = np.array([1e9, 1e9, 1e9, 1e9, 1.0, 1.0])
    for rule in RULES:
        if rule in rules_that_take("cost"):
            make = partial(make_rule, rule)
            batch = acquire(pool, train, None, make, noise=1e-3, seed=0, cost=cost, budget=2.0)
            assert sorted(batch.indices) == [4, 5]
            assert batch.stopped == "budget spent"
    with pytest.raises(SelectionError, match="cost"):
        acquire(pool, train, 1, partial(make_rule, "lcmd"), noise=1e-3, seed=0, cost=cost[:4])


def test_a_selector_of_ones_own_is_given_the_costs_of_the_candidates() -> None:
    """It need not be one of the rules, nor know that some structures are no candidates."""
    pool = Featurised(Features.one_row_each(np.eye(5)), ("a", "b", "c", "a", "d"))
    train = Featurised(Features.one_row_each(np.eye(5)[1:2]), ("b",))

    def cheapest(given: Given) -> Selector:
        def choose(pool: Features, train: Features, k: int, **_: object) -> Selection:
            assert given.cost is not None
            order = np.argsort(given.cost)[:k]
            return Selection(order, given.cost[order], Stopped.FILLED)

        return choose

    cost = np.array([5.0, 1.0, 3.0, 1.0, 2.0])
    batch = acquire(pool, train, 2, cheapest, noise=1e-3, seed=0, cost=cost)
    assert [pick.id for pick in batch.picks] == ["d", "c"]
    np.testing.assert_array_equal(batch.scores, [2.0, 3.0])


def test_a_batch_counts_the_picks_that_a_shortlist_cannot_have_changed() -> None:
    """A shortlist of four: the longest direction stands there twice, and its double is worth little."""
    rows = np.diag([8.0, 4.0, 2.0, 1.0, 0.5])
    pool = named(np.concatenate([rows, 0.9 * rows[:1]]))
    for n, certain in ((2, 2), (3, 3), (4, 3)):
        short = Shortlist(MaxVariance(noise=1e-3), 4, 1e-3)
        empty = Featurised(Features.empty(5), ())
        batch = acquire(pool, empty, n, lambda _, short=short: short, noise=1e-3, seed=0)
        assert batch.indices[:certain] == list(range(certain))
        assert batch.certain == certain
    whole = acquire(pool, empty, 2, lambda _: MaxVariance(noise=1e-3), noise=1e-3, seed=0)
    assert whole.certain is None


def test_picks_are_calibrated_where_errors_are_known() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(160, 6)) * rng.gamma(1.0, 1.0, (160, 1))
    residual = 20 * np.linalg.norm(rows, axis=1) * rng.normal(size=160)
    pool, train = named(rows[:100]), named(rows[100:], "t")
    known = KnownErrors(residual[100:], np.abs(residual[100:]) + 1)
    batch = acquire(pool, train, 5, lambda _: MaxVariance(noise=1e-3), noise=1e-3, seed=0, known=known)
    assert batch.errors is not None
    scaled_pool, scaled_train = unit_mean_square(pool.features, train.features)
    posterior = Posterior.fit(scaled_train, noise=1e-3)
    own = scaled_pool.take(batch.indices)
    std = np.sqrt(posterior.variance(own.values))
    np.testing.assert_allclose(batch.errors.energy, batch.calibrations.energy.expected(std))
    np.testing.assert_allclose(batch.errors.forces, batch.calibrations.forces.expected(std))
    fold = assign_folds(60)
    stds = [
        Posterior.fit(scaled_train.take(np.flatnonzero(fold != k)), noise=1e-3).structure_std(own)
        for k in range(5)
    ]
    np.testing.assert_allclose(
        batch.errors.forces_half_width, batch.calibrations.forces.half_width(np.array(stds))
    )
    assert (batch.errors.energy_half_width > 0).all()
    assert acquire(pool, train, 5, lambda _: Random(), noise=1e-3, seed=0).errors is None


def test_featurise_streams_in_blocks(potential: MacePotential) -> None:
    structures = rattled(300, seed=0)
    steps: list[int] = []
    found = featurise(iter(structures), Activations(potential), on_progress=steps.append)
    assert steps == [256, 44]
    assert found.ids == tuple(structure_id(atoms) for atoms in structures)
    whole = Activations(potential)(structures)
    np.testing.assert_allclose(found.features.values, whole.values, rtol=1e-5, atol=1e-6)


def test_features_know_their_owners() -> None:
    features = Features(np.arange(10.0).reshape(5, 2), np.array([0, 0, 1, 2, 2]), 3)
    taken = features.take([2, 0, 2])
    np.testing.assert_array_equal(taken.owner, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(taken.values, features.values[[3, 4, 0, 1, 3, 4]])
    joined = Features.concatenate([features, taken])
    assert (len(joined), len(joined.values)) == (6, 11)
    assert joined.owner[-1] == 5
    with pytest.raises(FeatureError, match="structure 1"):
        Features(np.array([[1.0], [np.nan]]), np.array([0, 1]), 2)
    with pytest.raises(FeatureError, match="owner"):
        Features(np.zeros((2, 1)), np.array([0, 2]), 3)
    with pytest.raises(FeatureError, match="widths"):
        Features.concatenate([Features.empty(2), Features.empty(3)])
