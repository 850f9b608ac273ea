"""Labels needed to reach a target, on curves made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from surveyor.lab.benchmark.curves import (
    Curves,
    Needed,
    error_ratio,
    labels_needed,
    needed,
    ratio_over_tasks,
    reach,
    saving,
    saving_over_tasks,
)

LABELS = np.array([20.0, 60.0, 100.0, 140.0])


def slow(errors: np.ndarray, target: float) -> Needed:
    """One curve and one target, point by point."""
    for i, error in enumerate(errors):
        if error <= target:
            if i == 0:
                return Needed(float(LABELS[0]), reached=True)
            least = errors[:i].min()
            share = np.log(least / target) / np.log(least / error)
            return Needed(float(LABELS[i - 1] + share * (LABELS[i] - LABELS[i - 1])), reached=True)
    return Needed(float(LABELS[-1]), reached=False)


def first_at(errors: np.ndarray, target: float) -> Needed:
    """The same by the library."""
    (found,) = needed(LABELS, errors, np.array([target]))
    return found


def test_between_points_the_logarithm_of_the_error_is_straight() -> None:
    errors = np.array([100.0, 10.0, 5.0, 1.0])
    assert first_at(errors, 100.0) == Needed(20.0, reached=True)
    assert first_at(errors, 10.0) == Needed(60.0, reached=True)
    halfway = first_at(errors, np.sqrt(100.0 * 10.0))
    assert halfway.labels == pytest.approx(40.0)
    assert first_at(errors, 200.0) == Needed(20.0, reached=True)


def test_a_curve_that_rises_again_has_reached_what_it_reached() -> None:
    assert first_at(np.array([100.0, 10.0, 50.0, 40.0]), 10.0) == Needed(60.0, reached=True)


def test_never_reached_is_a_bound() -> None:
    assert first_at(np.array([100.0, 50.0, 40.0, 30.0]), 10.0) == Needed(140.0, reached=False)


def test_many_curves_at_once_are_the_curves_point_by_point() -> None:
    rng = np.random.default_rng(4)
    errors = np.exp(rng.normal(size=(200, 4)))
    # between points, exactly at a point, missed, too easy
    targets = np.concatenate([np.exp(rng.normal(size=9)), errors[0], [0.0001, 1000.0]])
    twin = [[slow(own, t) for t in targets] for own in errors]
    found = labels_needed(LABELS, errors, targets)
    np.testing.assert_allclose(found, [[n.labels for n in row] for row in twin], rtol=1e-12)
    for own, row in zip(errors, twin, strict=True):
        assert [n.reached for n in needed(LABELS, own, targets)] == [n.reached for n in row]


def test_targets_span_what_the_baseline_reaches() -> None:
    targets = reach(np.array([80.0, 40.0, 10.0, 20.0]), 3)
    assert targets == pytest.approx([40.0, 20.0, 10.0])
    assert len(reach(np.array([10.0, 20.0, 30.0]), 3)) == 0


def one(errors: list[float]) -> Curves:
    return Curves(LABELS, np.array([errors]))


def test_a_strategy_twice_as_fast_saves_half() -> None:
    baseline = Curves(np.array([40.0, 80.0, 160.0]), np.array([[64.0, 16.0, 1.0]]))
    fast = Curves(np.array([20.0, 40.0, 80.0]), np.array([[64.0, 16.0, 1.0]]))
    found = saving(fast, baseline, count=6)
    assert found.mean == pytest.approx(0.5)
    assert not found.is_bound
    assert found.low is None  # one seed has no interval
    assert found.at_best == pytest.approx(0.5)


def test_what_is_never_reached_counts_as_the_last_number_and_is_marked() -> None:
    baseline = one([100.0, 50.0, 20.0, 10.0])
    poor = one([100.0, 90.0, 80.0, 70.0])
    found = saving(poor, baseline, count=2)  # targets √1000 and 10
    assert found.is_bound
    assert [n.reached for n in found.needed] == [False, False]
    assert [n.labels for n in found.needed] == [140.0, 140.0]
    at = 60.0 + 40.0 * np.log(50.0 / np.sqrt(1000.0)) / np.log(50.0 / 20.0)
    assert found.mean == pytest.approx(np.mean([1 - 140.0 / at, 0.0]))


def test_the_baseline_saves_nothing_against_itself() -> None:
    rng = np.random.default_rng(0)
    curves = Curves(LABELS, np.sort(rng.uniform(1.0, 100.0, (5, 4)))[:, ::-1])
    found = saving(curves, curves)
    assert found.mean == found.at_best == 0.0
    assert not found.is_bound  # its own best is reached to the last digit
    assert (found.low, found.high) == (0.0, 0.0)  # seeds are drawn alike for both


def test_the_interval_holds_the_mean_and_is_reproducible() -> None:
    rng = np.random.default_rng(1)
    baseline = Curves(LABELS, 100.0 * np.exp(-LABELS / 60.0) * rng.uniform(0.8, 1.2, (6, 4)))
    better = Curves(LABELS, 100.0 * np.exp(-LABELS / 40.0) * rng.uniform(0.8, 1.2, (6, 4)))
    found = saving(better, baseline)
    assert found.mean is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.mean < found.high
    assert saving(better, baseline) == found


def test_a_baseline_that_never_improves_sets_no_target() -> None:
    flat = one([10.0, 10.0, 11.0, 12.0])
    assert saving(one([10.0, 5.0, 2.0, 1.0]), flat).mean is None


def test_the_error_ratio_is_the_geometric_mean_behind_the_first_point() -> None:
    rng = np.random.default_rng(2)
    baseline = Curves(LABELS, rng.uniform(1.0, 100.0, (5, 4)))
    strategy = Curves(LABELS, rng.uniform(1.0, 100.0, (5, 4)))
    found = error_ratio(strategy, baseline)
    assert found is not None
    product = 1.0
    for s in range(5):
        for p in (1, 2, 3):
            product *= strategy.errors[s, p] / baseline.errors[s, p]
    assert found.mean == pytest.approx(product ** (1 / 15), rel=1e-12)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.mean < found.high
    assert error_ratio(strategy, baseline) == found
    back = error_ratio(baseline, strategy)
    assert back is not None
    assert back.mean == pytest.approx(1 / found.mean, rel=1e-12)


def test_half_the_error_everywhere_is_a_ratio_of_a_half_without_spread() -> None:
    baseline = Curves(LABELS, np.array([[100.0, 50.0, 20.0, 10.0], [80.0, 60.0, 30.0, 9.0]]))
    halved = Curves(LABELS, baseline.errors * np.array([1.0, 0.5, 0.5, 0.5]))
    found = error_ratio(halved, baseline)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert error_ratio(Curves(LABELS[:1], np.array([[1.0]])), baseline) is None
    single = error_ratio(one([100.0, 25.0, 10.0, 5.0]), one([100.0, 50.0, 20.0, 10.0]))
    assert single is not None
    assert single.low is None


def test_means_over_tasks_have_narrower_intervals_than_single_tasks() -> None:
    rng = np.random.default_rng(3)
    curves = [
        (
            Curves(LABELS, 100.0 * np.exp(-LABELS / 40.0) * rng.uniform(0.7, 1.3, (8, 4))),
            Curves(LABELS, 100.0 * np.exp(-LABELS / 60.0) * rng.uniform(0.7, 1.3, (8, 4))),
        )
        for _ in range(6)
    ]
    savings = [saving(*pair) for pair in curves]
    mean = saving_over_tasks(savings)
    assert mean is not None
    assert mean.mean == pytest.approx(np.mean([one.mean for one in savings]))
    assert mean.low is not None
    assert mean.high is not None
    assert mean.low < (mean.mean or 0.0) < mean.high
    assert mean.high - mean.low < np.mean([(one.high or 0.0) - (one.low or 0.0) for one in savings])
    ratios = [one for pair in curves if (one := error_ratio(*pair)) is not None]
    product = ratio_over_tasks(ratios)
    assert product is not None
    assert product.mean == pytest.approx(np.prod([one.mean for one in ratios]) ** (1 / 6))
    assert product.low is not None
    assert product.high is not None
    assert product.low < product.mean < product.high
    assert saving_over_tasks([]) is ratio_over_tasks([]) is None


def test_a_mean_over_tasks_with_a_single_seed_has_no_interval() -> None:
    flat = saving(one([10.0, 20.0, 30.0, 40.0]), one([10.0, 20.0, 30.0, 40.0]))  # nothing to reach
    steep = saving(one([100.0, 25.0, 10.0, 5.0]), one([100.0, 50.0, 20.0, 10.0]))
    found = saving_over_tasks([flat, steep])
    assert found is not None
    assert (found.mean, found.low, found.high) == (steep.mean, None, None)
