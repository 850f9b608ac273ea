"""The pool as rules see it: rows by number, from memory, a memory map or a zarr array."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from surveyor.errors import FeatureError
from surveyor.linalg import Rows, squared_norms
from surveyor.types import Features, Float64Array, IndexArray

CACHED_BYTES = 512 * 2**20


class Pool:
    """Features with fast access to the rows of a few structures.

    | variable | shape             | meaning                                              |
    |----------|-------------------|------------------------------------------------------|
    | starts   | (structures + 1,) | the rows of structure s are starts[s] … starts[s + 1] |
    | single   |                   | every structure owns exactly one row                 |
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self.values: Rows = features.values
        self.n_structures = len(features)
        self.n_rows, self.dim = (int(size) for size in features.values.shape)
        self.single = self.n_rows == self.n_structures
        self.starts = np.searchsorted(features.owner, np.arange(self.n_structures + 1))
        # double precision is worked on as it is; single and half precision are read as float32
        wide = features.values.dtype.itemsize >= 8
        self.dtype: type[np.floating] = np.float64 if wide else np.float32
        stored = features.values
        self._reader: _Memory | _RowCache = (
            _Memory(np.asarray(stored), self.dtype)
            if isinstance(stored, np.ndarray)
            else _RowCache(stored, self.dtype)
        )

    def rows_of(self, structures: IndexArray) -> IndexArray:
        """Row numbers of the structures, one structure after the other."""
        if self.single:
            return structures
        first = self.starts[structures]
        count = self.starts[structures + 1] - first
        total = int(count.sum())
        shift = np.repeat(first - (np.cumsum(count) - count), count)
        return np.asarray(np.arange(total) + shift, dtype=np.intp)

    def segments(self, structures: IndexArray) -> IndexArray:
        """Where each structure begins in `rows_of(structures)`."""
        count = self.starts[structures + 1] - self.starts[structures]
        return np.asarray(np.cumsum(count) - count, dtype=np.intp)

    def take(self, rows: IndexArray, *, keep: bool = True) -> NDArray[np.floating]:
        """The given rows (len(rows), dim) in the working dtype; `keep` them at hand if reading is slow."""
        return self._reader.take(rows, keep=keep)

    def structure(self, structure: int) -> Float64Array:
        """The rows of one structure in float64."""
        rows = np.arange(self.starts[structure], self.starts[structure + 1], dtype=np.intp)
        return self.take(rows).astype(np.float64)

    def missing(self, rows: IndexArray) -> bool:
        """Whether reading these rows would be slow."""
        return self._reader.missing(rows)

    @cached_property
    def norms(self) -> Float64Array:
        """|x|² of every row (rows,).

        Raises:
            FeatureError: the square of a row overflows the working dtype.
        """
        norms = squared_norms(self.values)
        largest = float(np.finfo(self.dtype).max)  # a dot product with a unit vector must stay below this
        bad = ~(np.sqrt(norms) < largest / 4)
        if bad.any():
            row = int(np.argmax(bad))
            raise FeatureError(
                f"pool row {row} is not finite or too large (|x|² = {norms[row]:g})",
                expected="rows scaled to a mean squared norm of 1",
                todo="scale the features, or remove that structure",
            )
        return norms


class _Memory:
    """Rows of an array in memory or in a memory map."""

    def __init__(self, values: NDArray[np.floating], dtype: type[np.floating]) -> None:
        self._values = values
        self._dtype = dtype

    def missing(self, rows: IndexArray) -> bool:  # noqa: ARG002
        return False

    def take(self, rows: IndexArray, *, keep: bool) -> NDArray[np.floating]:  # noqa: ARG002
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            found = self._values[rows[0] : rows[-1] + 1]  # a slice needs no copy
        else:
            found = self._values[rows]
        return found.astype(self._dtype, copy=False)


class _RowCache:
    """Rows of a chunked array, read a whole chunk at a time, the wanted ones kept up to a memory limit."""

    def __init__(self, values: Rows, dtype: type[np.floating]) -> None:
        n, dim = values.shape
        self._values = values
        self._dtype = dtype
        self._chunk = int(getattr(values, "chunks", (8192,))[0])
        self._last: tuple[int, NDArray[np.floating]] = (-1, np.empty((0, dim), dtype=dtype))
        self._capacity = max(1024, CACHED_BYTES // (np.dtype(dtype).itemsize * dim))
        self._slot = np.full(n, -1, dtype=np.int32)
        self._kept = np.empty((0, dim), dtype=dtype)
        self._used = 0

    def missing(self, rows: IndexArray) -> bool:
        return bool((self._slot[rows] < 0).any())

    def take(self, rows: IndexArray, *, keep: bool) -> NDArray[np.floating]:
        slots = self._slot[rows]
        lacking = slots < 0
        if not lacking.any():
            return self._kept[slots]
        result = np.empty((len(rows), self._kept.shape[1]), dtype=self._dtype)
        result[~lacking] = self._kept[slots[~lacking]]
        result[lacking] = self._read(rows[lacking])
        if keep:
            self._keep(rows[lacking], result[lacking])
        return result

    def _read(self, rows: IndexArray) -> NDArray[np.floating]:
        result = np.empty((len(rows), self._kept.shape[1]), dtype=self._dtype)
        chunk = rows // self._chunk
        for number in np.unique(chunk):
            here = np.flatnonzero(chunk == number)
            start = int(number) * self._chunk
            if self._last[0] != number:
                self._last = int(number), np.asarray(self._values[slice(start, start + self._chunk)])
            result[here] = self._last[1][rows[here] - start]
        return result

    def _keep(self, rows: IndexArray, found: NDArray[np.floating]) -> None:
        if self._used + len(rows) > self._capacity:  # start afresh: what still matters comes back soon
            self._slot[:] = -1
            self._used = 0
        rows, first = np.unique(rows[: self._capacity], return_index=True)
        end = self._used + len(rows)
        if end > len(self._kept):
            grown = np.empty(
                (min(self._capacity, max(end, 2 * len(self._kept))), found.shape[1]), self._dtype
            )
            grown[: self._used] = self._kept[: self._used]
            self._kept = grown
        self._kept[self._used : end] = found[first]
        self._slot[rows] = np.arange(self._used, end)
        self._used = end
