"""What every rule checks before it starts, and how bare arrays become features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from surveyor.errors import SelectionError
from surveyor.types import Features, Float64Array, FloatArray, IndexArray


def check_request(pool: Features, train: Features, k: int) -> None:
    """The arguments that all rules share; k may exceed the pool, which ends in `Stopped.EXHAUSTED`.

    Raises:
        SelectionError: k is not a positive whole number, the pool is empty, or the widths differ.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k <= 0:
        raise SelectionError(
            f"k = {k!r} structures to select",
            expected="a positive whole number",
            todo="ask for at least one structure",
        )
    if len(pool) == 0:
        raise SelectionError(
            "an empty pool", expected="at least one unlabelled structure", todo="add structures to the pool"
        )
    if pool.dim != train.dim:
        raise SelectionError(
            f"pool rows of width {pool.dim} and labelled rows of width {train.dim}",
            expected="one width",
            todo="make both with the same feature map and settings; "
            f"before the first label pass Features.empty({pool.dim})",
        )


def check_threshold(threshold: float | None) -> None:
    """Raises SelectionError unless the threshold is None or a finite number ≥ 0."""
    if threshold is not None and not (np.isfinite(threshold) and threshold >= 0):
        raise SelectionError(
            f"threshold = {threshold!r}",
            expected="None, or a number ≥ 0 in the unit of the rule's score",
            todo="leave it out to pick k structures whatever their score",
        )


def one_row_each(values: NDArray[np.floating], name: str) -> Features:
    """A bare array (numpy, np.memmap or zarr) as features in which structure i owns row i.

    Raises:
        SelectionError: the array is not of two dimensions.
        FeatureError: a row holds NaN or inf.
    """
    array = values if hasattr(values, "shape") and hasattr(values, "dtype") else np.asarray(values)
    if len(array.shape) != 2:
        raise SelectionError(
            f"{name} of shape {tuple(array.shape)}",
            expected="(rows, dim)",
            todo="pass one feature row per structure",
        )
    if not np.issubdtype(array.dtype, np.floating):
        array = np.asarray(array, dtype=np.float64)
    return Features.one_row_each(array)


def per_row(values: FloatArray, length: int, name: str) -> Float64Array:
    """A float64 copy of numbers that come one per row or one per structure.

    Raises:
        SelectionError: another length, or NaN among the values.
    """
    array = np.array(values, dtype=np.float64)
    if array.shape != (length,) or np.isnan(array).any():
        raise SelectionError(f"{name} of shape {array.shape}, or with NaN", expected=f"{length} numbers")
    return array


def ranks(rank: IndexArray | None, n_structures: int) -> IndexArray:
    """The rank of every structure (structures,); without any, its index.

    Raises:
        SelectionError: not one rank per structure.
    """
    if rank is None:
        return np.arange(n_structures, dtype=np.intp)
    if len(rank) != n_structures:
        raise SelectionError(f"{len(rank)} ranks for {n_structures} structures", expected="one each")
    return rank


def rank_of(ids: Sequence[str] | None, n_structures: int) -> IndexArray | None:
    """Position of each id in sorted order (structures,): who wins a tie, whatever the order of the pool.

    Raises:
        SelectionError: not one id per structure.
    """
    if ids is None:
        return None
    if len(ids) != n_structures:
        raise SelectionError(f"{len(ids)} ids for {n_structures} structures", expected="one id per structure")
    rank = np.empty(n_structures, dtype=np.intp)
    rank[np.argsort(np.array(ids, dtype=object), kind="stable")] = np.arange(n_structures)
    return rank
