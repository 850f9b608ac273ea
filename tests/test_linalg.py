"""Streaming Gram matrices, jittered Cholesky factors, explained directions: each against its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from surveyor.errors import FeatureError
from surveyor.linalg import (
    add_rows,
    cholesky,
    explained_directions,
    gram,
    row_blocks,
    solve_cholesky,
    solve_lower,
    squared_norms,
)


def rows(n: int, dim: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(dtype)


def test_gram_accumulates_in_double_precision() -> None:
    values = rows(20_000, 6) * np.float32(1e-3) + np.float32(1.0)
    exact = values.astype(np.float64).T @ values.astype(np.float64)
    assert gram(values).dtype == np.float64
    np.testing.assert_allclose(gram(values), exact, rtol=1e-13)


def test_blocks_read_memory_maps_and_zarr_arrays_alike(tmp_path: Path) -> None:
    values = rows(1000, 5)
    np.save(tmp_path / "rows.npy", values)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    chunked = zarr.create_array(tmp_path / "rows.zarr", data=values, chunks=(64, 5))
    for stored in (values, mapped, chunked):
        np.testing.assert_array_equal(np.concatenate([b for _, b in row_blocks(stored, size=77)]), values)
        np.testing.assert_array_equal(gram(stored), gram(values))
        np.testing.assert_array_equal(squared_norms(stored), squared_norms(values))


def test_squared_norms_in_double_precision_and_open_about_nan() -> None:
    values = rows(700, 33) * np.float32(1e-25)  # float32 squares would underflow
    np.testing.assert_allclose(
        squared_norms(values), (values.astype(np.float64) ** 2).sum(axis=1), rtol=1e-13
    )
    values[3, 4] = np.nan
    values[5, 6] = np.inf
    assert np.flatnonzero(~np.isfinite(squared_norms(values))).tolist() == [3, 5]


def test_cholesky_of_a_positive_definite_matrix_has_no_jitter() -> None:
    square = gram(rows(50, 8, np.float64))
    factor = cholesky(square)
    np.testing.assert_allclose(factor @ factor.T, square, rtol=1e-13)
    assert (np.triu(factor, 1) == 0).all()
    right = rows(8, 3, np.float64)
    np.testing.assert_allclose(factor @ solve_lower(factor, right), right, atol=1e-12)
    np.testing.assert_allclose(square @ solve_cholesky(factor, right), right, atol=1e-10)


def test_cholesky_mends_a_semidefinite_matrix_with_little_jitter() -> None:
    thin = rows(3, 10, np.float64)
    square = thin.T @ thin  # rank 3 of 10
    factor = cholesky(square)
    np.testing.assert_allclose(factor @ factor.T, square, atol=1e-8 * np.trace(square))


@pytest.mark.parametrize("matrix", [-np.eye(3), np.diag([1.0, 1.0, -1e-3]), np.array([[np.nan]])])
def test_cholesky_refuses_what_jitter_cannot_mend(matrix: np.ndarray) -> None:
    with pytest.raises(FeatureError):
        cholesky(matrix)


def test_cholesky_of_nothing() -> None:
    assert cholesky(np.zeros((0, 0))).shape == (0, 0)


@pytest.mark.parametrize("n", [0, 3, 9000])
def test_add_rows_updates_a_factor(n: int) -> None:
    values, start = rows(n, 6), cholesky(gram(rows(10, 6, seed=1)))
    factor = add_rows(start, values)
    np.testing.assert_allclose(factor @ factor.T, start @ start.T + gram(values), rtol=1e-10)
    assert (np.triu(factor, 1) == 0).all()
    with pytest.raises(FeatureError):
        add_rows(start, np.full((1, 6), np.nan))


@pytest.mark.parametrize("n", [0, 1, 5, 12, 40])
@pytest.mark.parametrize("rank", [2, 12])
def test_explained_directions_leave_the_posterior_covariance(n: int, rank: int) -> None:
    mix = np.random.default_rng(1).standard_normal((12, rank)) @ rows(rank, 12, np.float64, 2) / 12
    values = rows(n, 12, np.float64) @ mix
    noise = 1e-3
    V = explained_directions(values, noise)
    assert V.shape[1] == 12
    assert len(V) <= min(n, 12)
    expected = noise * np.linalg.inv(values.T @ values + noise * np.eye(12))
    np.testing.assert_allclose(np.eye(12) - V.T @ V, expected, atol=1e-10)
    assert (np.diff((V * V).sum(axis=1)) <= 1e-12).all()  # strongest first
