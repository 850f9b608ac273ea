"""What structures look like to a posterior that has not seen their labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from surveyor.errors import FeatureError, StructureError
from surveyor.posterior import Posterior
from surveyor.types import Features, Float64Array, IndexArray

MIN_STRUCTURES = 20
"""Fewer labelled structures leave no rank for an 80 % interval in every fold."""

MIN_FOLDS = 3


def assign_folds(n: int, *, folds: int = 5, seed: int = 0, groups: Sequence[str] | None = None) -> IndexArray:
    """Fold of each of n structures (n,): groups in seeded random order, each to the smallest fold so far.

    There are as many folds as asked for, or as there are groups.

    Raises:
        StructureError: fewer than 20 structures, or fewer than three groups or folds.
    """
    if n < MIN_STRUCTURES:
        raise StructureError(
            f"{n} labelled structures to calibrate with",
            expected=f"at least {MIN_STRUCTURES}",
            todo="label more first; until then read the residual std as a ranking",
        )
    if groups is not None and len(groups) != n:
        raise StructureError(f"{len(groups)} group names for {n} structures", expected="one name each")
    names = (
        np.arange(n) if groups is None else np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    )
    members = np.bincount(names)
    if min(folds, len(members)) < MIN_FOLDS:
        raise StructureError(
            f"{len(members)} groups and {folds} folds to calibrate with",
            expected=f"at least {MIN_FOLDS} of both: to learn from, to compare with, to measure on",
            todo="name more groups, or leave the groups out and hold out structures one by one",
        )
    sizes = np.zeros(min(folds, len(members)), dtype=np.intp)
    fold_of_group = np.zeros(len(members), dtype=np.intp)
    for group in np.random.default_rng(seed).permutation(len(members)):
        fold_of_group[group] = smallest = int(np.argmin(sizes))
        sizes[smallest] += members[group]
    return fold_of_group[names]


def held_out(
    train: Features, fold: IndexArray, *, noise: float, residuals: Float64Array | None = None
) -> tuple[Float64Array, Float64Array | None]:
    """Std of every structure, and |error| of the linearised learner on it, without its fold and one more.

        s(x)     = √(λ φ(x)ᵀ A⁻¹ φ(x))
        error(x) = |r(x) − r̄ − φ(x)ᵀ A⁻¹ Φᵀ (r − r̄)|

    The residual std describes this learner: it is what the labels have taught it, and what they have not.

    | symbol | variable    | shape      | meaning                                                           |
    |--------|-------------|------------|-------------------------------------------------------------------|
    | Φ      | train       | (rows, dim) | labelled rows                                                    |
    |        | fold        | (n,)       | 0 … folds − 1                                                     |
    | r      | residuals   | (n,)       | label minus prediction, on the scale of the rows, of which each   |
    |        |             |            | structure owns one; None: no errors                               |
    | s      | returned[0] | (folds, n) | [k, i]: A and r̄ of the folds other than k and that of i          |
    |        | returned[1] | (folds, n) | the same for the errors                                           |

    Raises:
        SelectionError: noise is not positive.
        FeatureError: residuals that do not fit the rows or are not finite.
    """
    if residuals is not None and not (residuals.shape == (len(train),) and len(train) == len(train.values)):
        raise FeatureError(
            f"residuals of shape {residuals.shape} for {len(train.values)} rows", expected="one per row"
        )
    count = int(fold.max()) + 1
    std, errors = np.empty((count, len(train))), np.empty((count, len(train)))
    for first in range(count):
        for second in range(first, count):
            others = np.flatnonzero((fold != first) & (fold != second))
            known = train.take(others)
            mean = 0.0 if residuals is None else float(residuals[others].mean())
            targets = None if residuals is None else residuals[others] - mean
            posterior = Posterior.fit(known, noise=noise, targets=targets)
            for own, other in {(first, second), (second, first)}:
                part = np.flatnonzero(fold == own)
                features = train.take(part)
                std[other, part] = posterior.structure_std(features)
                if residuals is not None:
                    left = residuals[part] - mean - posterior.mean(features.values)
                    errors[other, part] = np.abs(left)
    return std, None if residuals is None else errors
