"""One batch: pool and labelled structures in, ranked picks with their reasons out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from surveyor.calibration import Calibrations, KnownErrors, calibrate_both
from surveyor.errors import SelectionError
from surveyor.features.featurised import Featurised, featurise
from surveyor.features.rows import part_of
from surveyor.features.scaling import unit_mean_square
from surveyor.forecast import SAMPLE, Forecast, forecast, sample
from surveyor.posterior import Posterior, Step, condition_in_turn, structure_std
from surveyor.reasons import removed_shares
from surveyor.selection import Given, among
from surveyor.selection.validation import rank_of
from surveyor.types import Features, Float64Array, FloatArray, IndexArray, Selector, Stopped

__all__ = ["Batch", "Featurised", "Pick", "PickErrors", "Rule", "acquire", "featurise"]

REMOVES_SAMPLE = 20_000
"""Pool structures that the removed variance is summed over: the sum must not cost more than the choice."""

Rule = Callable[[Given], Selector]
"""Makes the selector, for the structures that may be picked."""


@dataclass(frozen=True)
class Pick:
    """One chosen structure.

    | variable   | meaning                                                                           |
    |------------|-----------------------------------------------------------------------------------|
    | index      | its position in the pool                                                          |
    | id         | its content hash                                                                  |
    | rank       | 0 for the first pick                                                              |
    | std        | residual standard deviation given the labelled structures and the picks before it, |
    |            | as a share of the pool's root mean square feature norm                            |
    | nearest    | id of the labelled structure of largest cosine similarity; None before any label  |
    | similarity | that cosine similarity                                                            |
    | removes    | share of the pool's residual variance that it removes, of what the labelled       |
    |            | structures and the picks before it leave (pools over 20,000: of a seeded sample)  |
    """

    index: int
    id: str
    rank: int
    std: float
    nearest: str | None
    similarity: float | None
    removes: float


@dataclass(frozen=True, eq=False)
class PickErrors:
    """What to expect of every pick, given the labelled structures.

    | variable          | shape    | meaning                                                  | unit     |
    |-------------------|----------|----------------------------------------------------------|----------|
    | energy            | (picks,) | expected |error| of the linearised learner               | meV/atom |
    | energy_half_width | (picks,) | of the interval about its prediction                     | meV/atom |
    | forces            | (picks,) | expected mean |error| of the potential as it is          | meV/Å    |
    | forces_half_width | (picks,) | of the interval that holds it                            | meV/Å    |
    """

    energy: Float64Array
    energy_half_width: Float64Array
    forces: Float64Array
    forces_half_width: Float64Array


@dataclass(frozen=True, eq=False)
class Batch:
    """The picks of one acquisition, best first.

    | variable     | shape               | meaning                                                        |
    |--------------|---------------------|----------------------------------------------------------------|
    | directions   | (picks, dim) or None | what each is uncertain along (`Step`); None: several rows each |
    | forecast     |                     | None where none was asked for                                  |
    | calibrations |                     | None where no errors on labelled structures were given         |
    | scores       | (picks,)            | the rule's scores, in its unit                                 |
    | certain      |                     | first picks that a shortlist cannot have changed; None: unknown |
    | errors       |                     | None where there are no calibrations                           |
    """

    picks: tuple[Pick, ...]
    stopped: Stopped
    n_pool: int
    n_duplicates: int
    n_labelled_in_pool: int
    directions: Float64Array | None = None
    forecast: Forecast | None = None
    calibrations: Calibrations | None = None
    scores: Float64Array | None = None
    certain: int | None = None
    errors: PickErrors | None = None

    @property
    def indices(self) -> list[int]:
        return [pick.index for pick in self.picks]

    def __len__(self) -> int:
        return len(self.picks)

    def __repr__(self) -> str:
        return f"Batch({len(self)} of {self.n_pool}: {first_few(self.indices)}; {self.stopped.value})"


def first_few(values: Sequence[object]) -> str:
    """The first five, in words."""
    return ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")


def acquire(
    pool: Featurised,
    labelled: Featurised,
    n: int | None,
    rule: Rule,
    *,
    noise: float,
    seed: int,
    target: Featurised | None = None,
    cost: FloatArray | None = None,
    budget: float | None = None,
    disagreement: FloatArray | None = None,
    exclude: Iterable[str] = (),
    n_forecast: int = 0,
    known: KnownErrors | None = None,
) -> Batch:
    """Pick n structures of the pool; None: as many as the budget pays for.

    Repeated structures count once; structures that are labelled already, or excluded, are not candidates.
    Rows are scaled so that the pool's mean squared norm is 1: the noise λ is a share of the prior variance.
    Structures that tie go by their ids, so that the order of the pool does not matter.

    Args:
        rule: makes the selector of what follows: noise, target, and costs and disagreement of the candidates.
        noise: λ of the posterior that gives the picks' std.
        target: the structures that the rule aims at, where it aims at any.
        cost: price of each structure of the pool (structures,).
        budget: what the picks may cost together.
        disagreement: of a committee about each structure of the pool (structures,).
        exclude: ids that must not be picked (failed labels).
        n_forecast: how many labels to look ahead; the picks are the first n of the forecast's, and it ends
            where the candidates do. 0: no forecast.
        known: errors on the labelled structures, all of them; with these the batch is calibrated.

    Raises:
        SelectionError: n < 1 or larger than the number of candidates, no candidate, a negative n_forecast.
        StructureError: too few labelled structures to calibrate with.
    """
    candidates, n_duplicates, n_known = _candidates(pool.ids, {*labelled.ids, *exclude})
    n = max(1, len(candidates)) if n is None else n
    _check_size(n, len(pool), len(candidates), n_duplicates, n_known)
    _check_forecast(n_forecast)
    ahead = max(n, min(n_forecast, len(candidates)))
    aims = [] if target is None else [target.features]
    parts = part_of(pool.features, candidates), labelled.features, *aims
    candidate_features, train, *scaled = unit_mean_square(*parts)
    given = Given(noise, scaled[0] if scaled else None, cost, budget, disagreement)
    by_id = rank_of([pool.ids[index] for index in candidates], len(candidates))
    selector = rule(among(given, candidates, len(pool)))
    found = selector(candidate_features, train, ahead, rng=np.random.default_rng(seed), rank=by_id)
    if not len(found):
        raise SelectionError(
            f"no pick: {found.stopped.value}",
            expected="a budget that pays for a label, and a threshold that a structure exceeds",
            todo="raise the budget, or lower the threshold",
        )
    posterior = Posterior.fit(train, noise=noise)
    path = candidate_features.take(found.indices)
    chosen = path.take(range(min(n, len(found))))
    ahead_steps = list(condition_in_turn(posterior, path, cut=len(chosen)))
    steps = [step for step in ahead_steps if step.owner[0] < len(chosen)]
    removes = removed_shares(steps, sample(candidate_features, REMOVES_SAMPLE, seed))
    calibrations = None if known is None else calibrate_both(train, known, noise=noise, seed=seed)
    outlook = None
    if n_forecast:
        outlook = forecast(ahead_steps, sample(candidate_features, SAMPLE, seed), calibrations=calibrations)
    places = candidates[found.indices[:n]]
    return Batch(
        _picks(places, pool.ids, steps, removes, _nearest(chosen, train, labelled.ids)),
        Stopped.FILLED if len(found) > n else found.stopped,
        len(pool),
        n_duplicates,
        n_known,
        directions=_own_directions(steps),
        forecast=outlook,
        calibrations=calibrations,
        scores=found.scores[:n],
        certain=None if found.certain is None else min(found.certain, n),
        errors=None if calibrations is None else _pick_errors(calibrations, posterior, chosen),
    )


def _picks(
    places: IndexArray,
    ids: Sequence[str],
    steps: Sequence[Step],
    removes: Float64Array,
    nearest: Sequence[tuple[str | None, float | None]],
) -> tuple[Pick, ...]:
    each = zip(places.tolist(), _std_in_turn(steps).tolist(), nearest, removes.tolist(), strict=True)
    return tuple(
        Pick(place, ids[place], rank, std, name, similarity, removed)
        for rank, (place, std, (name, similarity), removed) in enumerate(each)
    )


def _pick_errors(calibrations: Calibrations, posterior: Posterior, chosen: Features) -> PickErrors:
    std = posterior.structure_std(chosen)
    energy, forces = calibrations.half_widths(chosen)
    return PickErrors(
        energy=calibrations.energy.expected(std),
        energy_half_width=energy,
        forces=calibrations.forces.expected(std),
        forces_half_width=forces,
    )


def _candidates(ids: Sequence[str], taken: set[str]) -> tuple[IndexArray, int, int]:
    """Positions that may be picked; numbers of repeated and of taken structures."""
    seen: set[str] = set()
    positions, repeated, known = [], 0, 0
    for position, name in enumerate(ids):
        if name in seen:
            repeated += 1
        elif name in taken:
            known += 1
        else:
            positions.append(position)
        seen.add(name)
    return np.array(positions, dtype=np.intp), repeated, known


def _check_size(n: int, n_pool: int, n_candidates: int, n_duplicates: int, n_known: int) -> None:
    if n < 1:
        raise SelectionError(f"n = {n}", expected="at least one structure to pick")
    if n_pool == 0:
        raise SelectionError("an empty pool", expected="at least one structure")
    left_out = f"{n_duplicates} repeated and {n_known} already labelled or excluded"
    if n_candidates == 0:
        raise SelectionError(
            f"no candidate is left of {n_pool} pool structures: {left_out}",
            expected="a pool with structures that are not in the training set yet",
            todo="give another pool, or stop here: this pool is used up",
        )
    if n > n_candidates:
        raise SelectionError(
            f"n = {n} picks, but the pool has {n_candidates} candidates ({n_pool} structures, {left_out})",
            expected=f"n ≤ {n_candidates}",
            todo=f"ask for fewer (-n {n_candidates}), or give a larger pool",
        )


def _check_forecast(n_forecast: int) -> None:
    if n_forecast < 0:
        raise SelectionError(f"forecast = {n_forecast}", expected="a number of labels, or 0 for no forecast")


def _std_in_turn(steps: Sequence[Step]) -> Float64Array:
    """Residual standard deviation of each pick, given the picks before it (picks,)."""
    return np.concatenate([structure_std(step.variance, step.owner - step.owner[0]) for step in steps])


def _own_directions(steps: Sequence[Step]) -> Float64Array | None:
    """Row of U of every pick (picks, dim); None if picks own several rows."""
    if any((np.diff(step.owner) == 0).any() for step in steps):
        return None
    return np.concatenate([step.directions for step in steps])


def _nearest(
    chosen: Features, train: Features, names: Sequence[str]
) -> list[tuple[str | None, float | None]]:
    if len(names) == 0:
        return [(None, None)] * len(chosen)
    similarity = _unit(_first_rows(chosen)) @ _unit(_first_rows(train)).T
    best = similarity.argmax(axis=1)
    return [(names[j], float(similarity[i, j])) for i, j in enumerate(best)]


def _first_rows(features: Features) -> Float64Array:
    first = np.searchsorted(features.owner, np.arange(features.n_structures))
    return np.asarray(features.values[first], dtype=np.float64)


def _unit(rows: Float64Array) -> Float64Array:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms == 0, 1.0, norms)
