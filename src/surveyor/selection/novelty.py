"""Which structures would teach nothing because an identical one is labelled already."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from surveyor.linalg import Rows, row_blocks
from surveyor.selection.pool import Pool
from surveyor.types import IndexArray

STRUCTURES = 1024


class Novelty:
    """Remembers labelled rows exactly, and says whether a structure brings any other.

    A row is novel if it is not zero and equals no labelled row to the last bit (compared in float64, with
    -0 = 0). Residual variance alone cannot tell: a copy keeps λ·s²/(s² + λ) of it, which may exceed the
    whole variance of a small but novel row. A structure is novel if any of its rows is.
    """

    def __init__(self, train: Rows) -> None:
        self._known: set[bytes] = set()
        self._finds = 0
        for _, block in row_blocks(train):
            self.add(block)

    def add(self, rows: NDArray[np.floating]) -> None:
        """Remember the rows of a structure that is, or will be, labelled."""
        self._known.update(_keys(rows))

    def __contains__(self, rows: NDArray[np.floating]) -> bool:
        """Whether a structure with these rows is novel."""
        return bool(self.rows(rows).any())

    def rows(self, rows: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which rows are novel (rows,)."""
        known = np.array([key in self._known for key in _keys(rows)], dtype=bool)
        return ~known & rows.any(axis=1)

    def copies(self, pool: Pool, among: IndexArray, found: int) -> IndexArray:
        """Structures of `among` that are not novel; a sweep over all of them, or just the one found.

        Where there is one copy there may be many, so that the first find sweeps the pool, and later ones
        when their number has doubled.
        """
        self._finds += 1
        if self._finds & (self._finds - 1):  # not a power of two
            return np.array([found], dtype=np.intp)
        parts = [np.zeros(0, dtype=np.intp)]
        for start in range(0, len(among), STRUCTURES):
            part = among[start : start + STRUCTURES]
            novel = self.rows(pool.take(pool.rows_of(part), keep=False))
            parts.append(part[~np.logical_or.reduceat(novel, pool.segments(part))])
        return np.concatenate(parts)


def _keys(rows: NDArray[np.floating]) -> list[bytes]:
    exact = np.ascontiguousarray(rows, dtype=np.float64) + 0.0  # -0.0 + 0.0 = 0.0
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in exact]
