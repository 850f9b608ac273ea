"""Dense linear algebra in float64: row blocks, Gram matrices, Cholesky factors, triangular solves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.linalg import LinAlgError, eigh, qr, solve_triangular, svd
from scipy.linalg import cholesky as _lapack_cholesky

from surveyor.errors import FeatureError
from surveyor.types import Float64Array

BLOCK_ROWS = 8192


class Rows(Protocol):
    """A matrix that is read a slice of rows at a time: numpy array, np.memmap or zarr array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[np.generic]: ...

    def __getitem__(self, key: slice, /) -> NDArray[np.generic]: ...


def row_blocks(
    values: Rows, dtype: DTypeLike | None = np.float64, size: int = BLOCK_ROWS
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Slices of at most `size` rows with their values, converted to `dtype` (None keeps the stored one).

    What is stored in chunks is read in whole chunks, each of them once.
    """
    n = values.shape[0]
    chunk = max(1, int(getattr(values, "chunks", (size,))[0]))
    step = chunk * max(1, size // chunk)
    for first in range(0, n, step):
        read = values[slice(first, min(first + step, n))]
        for start in range(first, min(first + step, n), size):
            where = slice(start, min(start + size, first + step, n))
            yield where, np.asarray(read[where.start - first : where.stop - first], dtype=dtype)


def squared_norms(values: Rows) -> Float64Array:
    """|x|² of every row in float64; NaN or inf wherever the row holds one, or overflows.

    | symbol | variable | shape       |
    |--------|----------|-------------|
    | x      | values   | (rows, dim) |
    """
    norms = np.empty(values.shape[0])
    for where, block in row_blocks(values, dtype=None):
        norms[where] = block_norms(block)
    return norms


def block_norms(block: NDArray[np.floating]) -> Float64Array:
    """|x|² of every row of an array in memory, in float64."""
    norms = np.empty(len(block))
    for start in range(0, len(block), 256):  # 256 float64 rows stay in the processor's cache
        part = np.asarray(block[start : start + 256], dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # the caller judges what is not finite
            # one dot product a row through BLAS: twice as fast as einsum
            norms[start : start + 256] = np.matmul(part[:, None, :], part[:, :, None])[:, 0, 0]
    return norms


def gram(values: Rows) -> Float64Array:
    """ΦᵀΦ in float64, streamed over row blocks so that only one block is ever converted.

    | symbol | variable | shape       |
    |--------|----------|-------------|
    | Φ      | values   | (rows, dim) |
    | ΦᵀΦ    | returned | (dim, dim)  |
    """
    dim = values.shape[1]
    total = np.zeros((dim, dim))
    for _, block in row_blocks(values):
        total += block.T @ block
    return total


def cholesky(matrix: Float64Array) -> Float64Array:
    """Lower L with L Lᵀ = A + jI, where the jitter j is the least of a ladder that lets the factor exist.

    The ladder is 0, then ε·tr(A)/n times 1, 10, … 10⁶, with ε the rounding unit of float64: enough to
    mend what rounding took from a positive semidefinite matrix, too little to hide an indefinite one.

    | symbol | variable | shape  |
    |--------|----------|--------|
    | A      | matrix   | (n, n) |
    | L      | returned | (n, n) |

    Raises:
        FeatureError: A holds NaN or inf, or is not positive definite even with jitter.
    """
    n = len(matrix)
    if not np.isfinite(matrix).all():
        raise FeatureError(
            f"a {n}×{n} matrix that holds NaN or inf",
            expected="finite features whose squares do not overflow",
        )
    if n == 0:
        return np.zeros((0, 0))
    unit = float(np.finfo(np.float64).eps * np.trace(matrix) / n)
    for jitter in (0.0, *(unit * 10.0**power for power in range(7))):
        try:
            factor = _lapack_cholesky(
                matrix + jitter * np.eye(n) if jitter else matrix, lower=True, check_finite=False
            )
        except LinAlgError:
            continue
        return np.asarray(factor, dtype=np.float64)
    raise FeatureError(
        f"a {n}×{n} matrix that is not positive definite",
        expected="a Gram matrix plus positive noise",
        todo="raise the noise, or scale the rows to a mean squared norm of 1",
    )


def solve_lower(factor: Float64Array, right: NDArray[np.floating]) -> Float64Array:
    """L⁻¹B for a lower triangular L (n, n) and B (n, columns) or (n,)."""
    return np.asarray(solve_triangular(factor, right, lower=True, check_finite=False), dtype=np.float64)


def solve_cholesky(factor: Float64Array, right: NDArray[np.floating]) -> Float64Array:
    """A⁻¹B from the lower Cholesky factor L of A."""
    half = solve_lower(factor, right)
    return np.asarray(
        solve_triangular(factor, half, lower=True, trans="T", check_finite=False), dtype=np.float64
    )


def add_rows(factor: Float64Array, values: Rows) -> Float64Array:
    """Lower triangular L₁ with L₁L₁ᵀ = LLᵀ + ΦᵀΦ, by QR of [Lᵀ; Φ] over row blocks.

    ΦᵀΦ itself is never formed: that would square the condition number, and lose residual variances below
    ε times the largest eigenvalue over the noise.

    | symbol | variable | shape       |
    |--------|----------|-------------|
    | L      | factor   | (dim, dim)  |
    | Φ      | values   | (rows, dim) |
    | L₁     | returned | (dim, dim)  |

    Raises:
        FeatureError: a row holds NaN or inf.
    """
    upper = factor.T
    for where, block in row_blocks(values):
        if not np.isfinite(block).all():
            raise FeatureError(
                f"NaN or inf among feature rows {where.start} to {where.stop - 1}", expected="finite features"
            )
        upper = qr(np.concatenate([upper, block]), mode="r", check_finite=False)[0][: len(factor)]
    return np.ascontiguousarray(upper.T)


def explained_directions(values: Rows, noise: float) -> Float64Array:
    """V with VᵀV = I − λ(ΦᵀΦ + λI)⁻¹, strongest direction first: what the rows Φ explain of the space.

    With Φ = U diag(σ) Wᵀ, row j of V is σⱼ / √(σⱼ² + λ) times column j of W; the residual variance of
    any x is then |x|² − |Vx|², and a leading part of V already bounds it from above. Singular values come
    from Φ itself if it has at most as many rows as columns, and from ΦᵀΦ if it has more.

    | symbol | variable | shape       |
    |--------|----------|-------------|
    | Φ      | values   | (rows, dim) |
    | λ      | noise    | scalar, > 0 |
    | V      | returned | (≤ dim, dim) |
    """
    n, dim = values.shape
    if n <= dim:
        rows = np.asarray(values[slice(0, n)], dtype=np.float64)
        _, singular, right = svd(rows, full_matrices=False, check_finite=False)
        square = np.asarray(singular, dtype=np.float64) ** 2
    else:
        square, vectors = eigh(gram(values), check_finite=False)
        square, right = np.maximum(square[::-1], 0.0), vectors[:, ::-1].T
    share = square / (square + noise)
    kept = share > np.finfo(np.float64).eps
    return np.ascontiguousarray(np.sqrt(share[kept])[:, None] * right[kept])
