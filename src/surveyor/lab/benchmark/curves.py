"""How many labels a curve needs to reach a target error, against another curve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from surveyor.types import Float64Array


@dataclass(frozen=True, eq=False)
class Curves:
    """Learning curves of one strategy.

    | variable | shape           | meaning                                               |
    |----------|-----------------|-------------------------------------------------------|
    | labels   | (points,)       | labelled structures at every point, ascending         |
    | errors   | (seeds, points) | test error of every seed                              |
    """

    labels: Float64Array
    errors: Float64Array


@dataclass(frozen=True)
class Needed:
    """Labels to reach a target; `reached` False: more than so many, the curve ends before."""

    labels: float
    reached: bool


@dataclass(frozen=True)
class Saving:
    """Share of the labels that a strategy saves, averaged over targets.

    | variable | meaning                                                                               |
    |----------|---------------------------------------------------------------------------------------|
    | mean     | 1 − n_strategy / n_baseline; None where the baseline never improves                   |
    | low, high | 95 % bootstrap interval over seeds; None with one seed                               |
    | is_bound | some target was not reached: the true saving is no more than `mean`                   |
    | targets  | the target errors                                                                     |
    | needed, baseline | labels to reach them                                                          |
    | drawn    | the bootstrap's means, in the order of its draws; empty with one seed                  |
    """

    mean: float | None
    low: float | None
    high: float | None
    is_bound: bool
    targets: tuple[float, ...]
    needed: tuple[Needed, ...]
    baseline: tuple[Needed, ...]
    drawn: tuple[float, ...] = ()

    @property
    def at_best(self) -> float | None:
        """The share saved on the way to the last target, the baseline's least error."""
        return 1 - self.needed[-1].labels / self.baseline[-1].labels if self.needed else None


@dataclass(frozen=True)
class ErrorRatio:
    """Error of a strategy over the baseline's at equal labels; 1: no difference.

    | variable  | meaning                                                              |
    |-----------|----------------------------------------------------------------------|
    | mean      | geometric mean over the points behind the first, and over seeds      |
    | low, high | 95 % bootstrap interval over seeds; None with one seed               |
    | drawn     | the bootstrap's means, in the order of its draws; empty with one seed |
    """

    mean: float
    low: float | None
    high: float | None
    drawn: tuple[float, ...] = ()


def labels_needed(labels: Float64Array, errors: Float64Array, targets: Float64Array) -> Float64Array:
    """The least n with error(n) ≤ target, between points on a straight line of log error over n.

    A curve that rises again has reached what it reached: the running minimum counts. The last number stands
    where a target is not reached.

    | variable | shape             |
    |----------|-------------------|
    | labels   | (points,)         |
    | errors   | (curves, points)  |
    | targets  | (targets,)        |
    | returned | (curves, targets) |
    """
    best = np.minimum.accumulate(errors, axis=1)
    below = best[:, None, :] <= targets[:, None]
    after = below.argmax(axis=2)
    before = np.maximum(after - 1, 0)
    logs = np.log(np.maximum(best, np.finfo(np.float64).tiny))
    row = np.arange(len(best))[:, None]
    # nothing lies between the first point and one before it
    fall = np.where(after > 0, logs[row, before] - logs[row, after], 1.0)
    share = np.where(after > 0, (logs[row, before] - np.log(targets)) / fall, 0.0)
    between = labels[before] + share * (labels[after] - labels[before])
    return np.asarray(np.where(below.any(axis=2), between, labels[-1]), dtype=np.float64)


def needed(labels: Float64Array, errors: Float64Array, targets: Float64Array) -> tuple[Needed, ...]:
    """What one curve, (points,), needs for every target."""
    numbers = labels_needed(labels, errors[None], targets)[0]
    return tuple(Needed(float(n), bool(errors.min() <= t)) for n, t in zip(numbers, targets, strict=True))


def reach(errors: Float64Array, count: int) -> Float64Array:
    """Targets that a curve reaches: `count` errors, evenly spaced in the logarithm, from its first error
    (left out) to its least. Empty where it never improves."""
    first, least = float(errors[0]), float(errors.min())
    if not 0 < least < first:
        return np.zeros(0)
    targets = np.asarray(first * (least / first) ** (np.arange(1, count + 1) / count))
    targets[-1] = least  # not a rounding error below it
    return targets


def saving(strategy: Curves, baseline: Curves, *, count: int = 8, draws: int = 1000, seed: int = 0) -> Saving:
    """Labels that `strategy` needs to reach what `baseline` reaches (data-to-target), as a share saved.

        saving = mean over targets t of 1 − n_strategy(t) / n_baseline(t)

    n is read from the mean curve over seeds. Where the strategy never reaches a target, its labels are more
    than the curve has: the last number stands for it, and the saving is an upper bound; nothing is left
    out. The bootstrap draws seeds with replacement, the same for both (they share their first labels); the
    targets stay, and where a drawn baseline misses one its last number stands, too.

    Source: the data-to-target metric of arXiv 2605.03964.
    """
    mean, other = strategy.errors.mean(axis=0), baseline.errors.mean(axis=0)
    targets = reach(other, count)
    if not len(targets):
        return Saving(None, None, None, False, (), (), ())
    own = needed(strategy.labels, mean, targets)
    against = needed(baseline.labels, other, targets)
    drawn: list[float] = []
    common = min(len(strategy.errors), len(baseline.errors))
    if common > 1:
        chosen = np.random.default_rng(seed).integers(0, common, (draws, common))
        one, two = (
            labels_needed(curves.labels, curves.errors[chosen].mean(axis=1), targets)
            for curves in (strategy, baseline)
        )
        drawn = (1 - one / two).mean(axis=1).tolist()
    low, high = interval(drawn)
    return Saving(
        mean=float(np.mean([1 - n.labels / b.labels for n, b in zip(own, against, strict=True)])),
        low=low,
        high=high,
        is_bound=not all(n.reached for n in own),
        targets=tuple(float(t) for t in targets),
        needed=own,
        baseline=against,
        drawn=tuple(drawn),
    )


def error_ratio(strategy: Curves, baseline: Curves, *, draws: int = 1000, seed: int = 0) -> ErrorRatio | None:
    """How large a strategy's errors are beside the baseline's with as many labels.

        ratio = exp mean over seeds s and points p > 0 of log e_strategy(s, p) / e_baseline(s, p)

    Seeds are paired: they share their first labels, and the point of those is left out. No target is
    involved, so that flat curves, on which a small gain saves many labels, count for what they are. None
    where there is no second point.

    Args:
        strategy: its seeds in the order of the baseline's.
    """
    points = min(strategy.errors.shape[1], baseline.errors.shape[1])
    if points < 2:
        return None
    tiny = np.finfo(np.float64).tiny
    one, two = (np.log(np.maximum(own.errors[:, 1:points], tiny)) for own in (strategy, baseline))
    each = (one - two).mean(axis=1)
    drawn: list[float] = []
    if len(each) > 1:
        chosen = np.random.default_rng(seed).integers(0, len(each), (draws, len(each)))
        drawn = np.exp(each[chosen].mean(axis=1)).tolist()
    return ErrorRatio(float(np.exp(each.mean())), *interval(drawn), tuple(drawn))


def saving_over_tasks(each: Iterable[Saving]) -> Saving | None:
    """The mean over tasks, with the interval of the mean: seed k is drawn in all tasks at once.

    Tasks whose baseline never improves are left out; None where no task is left.
    """
    known = [one for one in each if one.mean is not None]
    if not known:
        return None
    drawn = _draw_by_draw([one.drawn for one in known]).tolist()
    mean = float(np.mean([one.mean for one in known if one.mean is not None]))
    return Saving(mean, *interval(drawn), any(one.is_bound for one in known), (), (), (), tuple(drawn))


def ratio_over_tasks(each: Iterable[ErrorRatio]) -> ErrorRatio | None:
    """The geometric mean over tasks, with its interval; None without any task."""
    known = list(each)
    if not known:
        return None
    drawn = np.exp(_draw_by_draw([np.log(one.drawn) for one in known])).tolist()
    mean = float(np.exp(np.mean([np.log(one.mean) for one in known])))
    return ErrorRatio(mean, *interval(drawn), tuple(drawn))


def _draw_by_draw(drawn: Sequence[Sequence[float] | Float64Array]) -> Float64Array:
    """Mean over tasks of every draw; empty where a task has a single seed."""
    count = min(len(own) for own in drawn)
    return np.asarray(np.mean([np.asarray(own[:count], dtype=np.float64) for own in drawn], axis=0))


def interval(drawn: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of a bootstrap's draws; None without any."""
    if not len(drawn):
        return None, None
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)
