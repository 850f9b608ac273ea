"""Which structures would teach nothing because an identical one is labelled already."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from surveyor.linalg import Rows, row_blocks


class Novelty:
    """Remembers labelled rows exactly, and says whether a structure brings any other.

    A row is novel if it is not zero and equals no labelled row to the last bit (compared in float64, with
    -0 = 0). Residual variance alone cannot tell: a copy keeps λ·s²/(s² + λ) of it, which may exceed the
    whole variance of a small but novel row. A structure is novel if any of its rows is.
    """

    def __init__(self, train: Rows) -> None:
        self._known: set[bytes] = set()
        for _, block in row_blocks(train):
            self.add(block)

    def add(self, rows: NDArray[np.floating]) -> None:
        """Remember the rows of a structure that is, or will be, labelled."""
        self._known.update(_keys(rows))

    def __contains__(self, rows: NDArray[np.floating]) -> bool:
        """Whether a structure with these rows is novel."""
        keys = _keys(rows)
        return any(np.any(row) and key not in self._known for row, key in zip(rows, keys, strict=True))


def _keys(rows: NDArray[np.floating]) -> list[bytes]:
    exact = np.ascontiguousarray(rows, dtype=np.float64) + 0.0  # -0.0 + 0.0 = 0.0
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in exact]
