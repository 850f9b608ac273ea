"""Rows that stay on disk: a part of them, and a scale, are applied as they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from surveyor.types import Features, FloatArray, IndexArray


@dataclass(frozen=True, eq=False)
class RowView:
    """Some rows of an array on disk, divided by a scale; read by slices or by row numbers.

    | variable | shape       | meaning                              |
    |----------|-------------|--------------------------------------|
    | stored   | (all, dim)  | zarr array, or rows of a store       |
    | index    | (rows,)     | which of them, ascending; None: all  |
    | scale    | scalar      | what every number is divided by      |
    """

    stored: Any
    index: IndexArray | None = None
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.stored) if self.index is None else len(self.index), int(self.stored.shape[1])

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return cast("np.dtype[np.floating]", self.stored.dtype)

    @property
    def chunks(self) -> tuple[int, int]:
        rows, dim = self.stored.chunks
        return int(rows), int(dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IndexArray) -> NDArray[np.floating]:
        wanted = key if self.index is None else self.index[key]
        return np.asarray(np.asarray(self.stored[wanted]) / self.dtype.type(self.scale))


def part_of(features: Features, structures: IndexArray) -> Features:
    """The given structures, in ascending order; what is in memory is copied, the rest stays on disk."""
    if len(structures) == len(features):
        return features
    if isinstance(features.values, np.ndarray):
        return features.take(structures)
    counts = np.bincount(features.owner)[structures]
    rows = np.flatnonzero(np.isin(features.owner, structures))
    owner = np.repeat(np.arange(len(structures), dtype=np.intp), counts)
    return Features(cast(FloatArray, RowView(features.values, rows)), owner, len(structures), finite=True)


def divided(features: Features, scale: float) -> Features:
    """All rows divided by a scale."""
    values = features.values
    if isinstance(values, np.ndarray):
        return Features(values / values.dtype.type(scale), features.owner, features.n_structures)
    if isinstance(values, RowView):
        view = RowView(values.stored, values.index, values.scale * scale)
    else:
        view = RowView(values, None, scale)
    return Features(cast(FloatArray, view), features.owner, features.n_structures, finite=True)
