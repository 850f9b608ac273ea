"""Seeded pools that rules find hard: low rank, copies, clusters, rows of very different length."""

from __future__ import annotations

import numpy as np

from surveyor.types import Features

KINDS = ("random", "low rank", "duplicated", "badly scaled", "clustered")


def pool(kind: str, n: int = 80, dim: int = 12, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    """(n, dim) rows; of mean squared norm about 1 except where they are badly scaled."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dim)) / np.sqrt(dim)
    if kind == "low rank":
        rows = rng.standard_normal((n, 3)) @ rng.standard_normal((3, dim)) / np.sqrt(3 * dim)
    elif kind == "duplicated":
        rows = rows[rng.integers(0, max(1, n // 4), size=n)]
    elif kind == "badly scaled":
        rows *= 10.0 ** rng.uniform(-2, 2, size=(n, 1))
    elif kind == "clustered":
        centres = rng.standard_normal((5, dim))
        rows = (centres[rng.integers(0, 5, size=n)] + 0.1 * rows) / np.sqrt(dim)
    return rows.astype(dtype)


def grouped(rows: np.ndarray, seed: int = 0, most: int = 4) -> Features:
    """The rows as structures of 1 … most rows each."""
    rng = np.random.default_rng(seed)
    counts: list[int] = []
    while sum(counts) < len(rows):
        counts.append(min(int(rng.integers(1, most + 1)), len(rows) - sum(counts)))
    return Features(rows, np.repeat(np.arange(len(counts)), counts), len(counts))


def by_norm(features: Features) -> np.ndarray:
    """One number a structure, the same for copies: what a committee might say of them (structures,)."""
    squares = (np.asarray(features.values, dtype=np.float64) ** 2).sum(axis=1)
    return np.bincount(features.owner, weights=squares, minlength=len(features))
