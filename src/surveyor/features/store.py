"""Features of any number of structures on disk, computed in bounded memory and resumed where they stopped.

    store.zarr/
      zarr.json            what the rows depend on: feature map and settings, potential, block size, dtype
      blocks/000000/       values (rows, dim), owner (rows,), ids (structures, 32)
      blocks/000001/
      complete/            there once the last block is written

A block is made under another name and renamed when it is whole, so that a kill at any moment costs one
block and leaves nothing half-written; blocks are cut at fixed numbers, so that a resumed store equals, byte
for byte, one that was never interrupted. A block knows the SHA-256 of its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from surveyor.errors import FeatureError
from surveyor.types import Features, FloatArray, IndexArray

FORMAT = 1
BLOCK = 2048
IN_MEMORY = 4 * 2**30
"""Rows of a store that take more bytes than this stay on disk and are read as the rule asks for them."""
CHECKSUM = "sha256"
UNREADABLE = (ValueError, RuntimeError, KeyError, TypeError, ArithmeticError)
"""What zarr and its codecs raise on damaged files."""


class StoreError(FeatureError):
    """A store that is damaged, or one of other features or of other structures."""


class FeatureStore:
    """Features on disk; rows are read when they are asked for.

    Raises:
        FeatureError: there is no store at the path, or one of another format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            attributes: dict[str, Any] = dict(zarr.open_group(self.path, mode="r").attrs)
            if attributes.get("surveyor_features") != FORMAT:
                raise StoreError(
                    f"{self.path} holds no features of format {FORMAT}",
                    expected="a folder that this version's `surveyor embed` wrote",
                    todo="embed the structures again, into a new folder",
                )
            self.settings: dict[str, Any] = dict(attributes["settings"])
            self.dim: int = int(attributes["dim"])
            self.dtype: str = str(attributes["dtype"])
            self.block: int = int(attributes["block"])
        except FileNotFoundError as error:
            raise StoreError(
                f"no feature store at {self.path}", expected="a folder that `surveyor embed` wrote"
            ) from error
        except UNREADABLE as error:
            raise self.damaged(str(error)) from error

    def differing(self, wanted: Mapping[str, object]) -> tuple[str, object, object] | None:
        """The first setting that differs from what is wanted: its name, its value here, and the wanted one.

        `block` and `dtype`, how the rows are kept, count only where `wanted` names them.
        """
        now = json.loads(json.dumps(dict(wanted)))
        layout = {key: value for key, value in (("block", self.block), ("dtype", self.dtype)) if key in now}
        there = {**layout, **self.settings}
        for key in sorted({*now, *there}):
            if now.get(key) != there.get(key):
                return key, there.get(key), now.get(key)
        return None

    @property
    def complete(self) -> bool:
        """All structures are embedded."""
        return (self.path / "complete").is_dir()

    @property
    def n_blocks(self) -> int:
        """Whole blocks, counted from the first without a gap."""
        number = 0
        while self.block_path(number).is_dir():
            number += 1
        return number

    def __len__(self) -> int:
        return sum(int(self._array(number, "ids").shape[0]) for number in range(self.n_blocks))

    def __repr__(self) -> str:
        state = "" if self.complete else ", not complete"
        what = f"{len(self)} structures × {self.dim}, {self.settings['features']}{state}"
        return f"FeatureStore({self.path}: {what})"

    def block_ids(self, number: int) -> list[str]:
        """Ids of the structures of one block."""
        return [row.tobytes().decode("latin-1") for row in self._read(number, "ids")]

    @property
    def ids(self) -> list[str]:
        """`structure_id` of every structure, in order."""
        return [name for number in range(self.n_blocks) for name in self.block_ids(number)]

    def blocks(self) -> Iterator[Features]:
        """The features, a block at a time.

        Raises:
            StoreError: a block is not what was written.
        """
        for number in range(self.n_blocks):
            arrays = {name: self._read(number, name) for name in ("values", "owner", "ids")}
            try:
                recorded = zarr.open_group(self.block_path(number), mode="r").attrs.get(CHECKSUM)
            except (OSError, *UNREADABLE) as error:
                raise self.damaged(f"block {number}: {error}") from error
            if recorded not in (None, checksum(arrays)):  # early stores have none
                raise self.damaged(f"block {number} is not what was written")
            if arrays["values"].shape != (len(arrays["owner"]), self.dim):
                raise self.damaged(f"block {number} has values of shape {arrays['values'].shape}")
            owner = arrays["owner"].astype(np.intp)
            yield Features(arrays["values"], owner, len(arrays["ids"]), finite=True)

    @property
    def n_bytes(self) -> int:
        """Memory that all rows need."""
        rows = sum(int(self._array(number, "values").shape[0]) for number in range(self.n_blocks))
        return rows * self.dim * np.dtype(self.dtype).itemsize

    def features(self, *, in_memory: bool = True) -> Features:
        """All rows, in the order of the structures: one copy in memory, or read as they are asked for.

        Raises:
            StoreError: a block is not what was written; what is read later is not checked.
        """
        if not in_memory:
            return self._on_disk()
        numbers = range(self.n_blocks)
        rows = [int(self._array(number, "values").shape[0]) for number in numbers]
        values = np.empty((sum(rows), self.dim), dtype=self.dtype)
        owner: IndexArray = np.empty(sum(rows), dtype=np.intp)
        row = structure = 0
        for block in self.blocks():
            values[row : row + len(block.values)] = block.values
            owner[row : row + len(block.values)] = block.owner + structure
            row += len(block.values)
            structure += block.n_structures
        return Features(values, owner, structure, finite=True)

    def _on_disk(self) -> Features:
        rows = StoredRows([self._array(number, "values") for number in range(self.n_blocks)])
        owners: list[IndexArray] = [np.zeros(0, dtype=np.intp)]
        structures = 0
        for number in range(self.n_blocks):
            owners.append(np.asarray(self._array(number, "owner")[:], dtype=np.intp) + structures)
            structures += int(self._array(number, "ids").shape[0])
        return Features(cast(FloatArray, rows), np.concatenate(owners), structures, finite=True)

    def block_path(self, number: int) -> Path:
        """Where a block lies."""
        return self.path / "blocks" / f"{number:06d}"

    def _array(self, number: int, name: str) -> Any:
        try:
            return zarr.open_array(self.block_path(number) / name, mode="r")
        except (FileNotFoundError, *UNREADABLE) as error:
            raise self.damaged(f"block {number}: {error}") from error

    def _read(self, number: int, name: str) -> NDArray[Any]:
        array = self._array(number, name)
        try:
            return np.asarray(array[:])
        except UNREADABLE as error:
            raise self.damaged(f"block {number}: {error}") from error

    def damaged(self, why: str) -> StoreError:
        """The error that says what is wrong with it."""
        return StoreError(
            f"the feature store {self.path} is damaged: {why.splitlines()[0] if why else 'unreadable'}",
            expected="a folder that `surveyor embed` wrote",
            todo="restore it from a copy, or delete it and embed the structures again",
        )


class StoredRows:
    """The rows of all blocks as one matrix (rows, dim), read a whole block at a time; the last is kept."""

    def __init__(self, blocks: Sequence[Any]) -> None:
        self.blocks = blocks
        self._last: tuple[int, FloatArray] = (-1, np.empty((0, 0)))
        self._starts = np.concatenate([[0], np.cumsum([block.shape[0] for block in blocks])])
        self.shape: tuple[int, int] = (int(self._starts[-1]), int(blocks[0].shape[1]))
        self.dtype = np.dtype(blocks[0].dtype)
        self.chunks: tuple[int, int] = (int(blocks[0].shape[0]), self.shape[1])
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IndexArray) -> NDArray[np.floating]:
        rows = np.arange(self.shape[0])[key] if isinstance(key, slice) else np.asarray(key, dtype=np.intp)
        found = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        block = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(block).tolist():
            here = np.flatnonzero(block == number)
            if self._last[0] != number:
                self._last = number, np.asarray(self.blocks[number][:])
            found[here] = self._last[1][rows[here] - self._starts[number]]
        return found


def joined(parts: Sequence[Features]) -> Features:
    """One after the other; rows that lie on disk stay there."""
    if all(isinstance(part.values, np.ndarray) for part in parts):
        return Features.concatenate(parts)
    blocks = [b for part in parts for b in getattr(part.values, "blocks", [part.values])]
    ends = np.cumsum([0, *(len(part) for part in parts)])
    owner = np.concatenate([part.owner + end for part, end in zip(parts, ends[:-1], strict=True)])
    return Features(cast(FloatArray, StoredRows(blocks)), owner, int(ends[-1]), finite=True)


def open_store(path: str | Path) -> FeatureStore:
    """Open a store that `embed` wrote.

    Raises:
        FeatureError: there is none, or one of another format.
    """
    return FeatureStore(path)


def checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of the content of a block."""
    digest = hashlib.sha256()
    for name in ("values", "owner", "ids"):
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
