"""Features of any number of structures on disk, computed in bounded memory and resumed where they stopped.

    store.zarr/
      zarr.json            what the rows depend on: feature map and settings, potential, block size, dtype
      blocks/000000/       values (rows, dim), owner (rows,), ids (structures, 32)
      blocks/000001/
      complete/            there once the last block is written

A block is made under another name and renamed when it is whole, so that a kill at any moment costs one
block and leaves nothing half-written; blocks are cut at fixed numbers, so that a resumed store equals, byte
for byte, one that was never interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import zarr
from ase import Atoms
from numpy.typing import NDArray

from surveyor.errors import FeatureError
from surveyor.structures.identity import structure_id
from surveyor.structures.writing import write_error
from surveyor.types import Features, FloatArray, IndexArray

FORMAT = 1
BLOCK = 2048


class StorableFeatureMap(Protocol):
    """A feature map that can say what its rows depend on."""

    @property
    def dim(self) -> int: ...
    @property
    def settings(self) -> Mapping[str, object]: ...
    def __call__(self, structures: Sequence[Atoms]) -> Features: ...


class FeatureStore:
    """Features on disk; rows are read when they are asked for.

    Raises:
        FeatureError: there is no store at the path, or one of another format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            attributes: dict[str, Any] = dict(zarr.open_group(self.path, mode="r").attrs)
        except FileNotFoundError as error:
            raise FeatureError(
                f"no feature store at {self.path}", expected="a folder that `surveyor embed` wrote"
            ) from error
        if attributes.get("surveyor_features") != FORMAT:
            raise FeatureError(
                f"{self.path} holds no features of format {FORMAT}",
                expected="a folder that this version's `surveyor embed` wrote",
                todo="embed the structures again, into a new folder",
            )
        self.settings: dict[str, Any] = dict(attributes["settings"])
        self.dim: int = int(attributes["dim"])
        self.dtype: str = str(attributes["dtype"])
        self.block: int = int(attributes["block"])

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
        while self._block_path(number).is_dir():
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
        raw = np.asarray(self._array(number, "ids")[:])
        return [row.tobytes().decode("ascii") for row in raw]

    @property
    def ids(self) -> list[str]:
        """`structure_id` of every structure, in order."""
        return [name for number in range(self.n_blocks) for name in self.block_ids(number)]

    def blocks(self) -> Iterator[Features]:
        """The features, a block at a time."""
        for number in range(self.n_blocks):
            owner = np.asarray(self._array(number, "owner")[:], dtype=np.intp)
            count = int(self._array(number, "ids").shape[0])
            yield Features(np.asarray(self._array(number, "values")[:]), owner, count, finite=True)

    @property
    def n_bytes(self) -> int:
        """Memory that all rows need."""
        rows = sum(int(self._array(number, "values").shape[0]) for number in range(self.n_blocks))
        return rows * self.dim * np.dtype(self.dtype).itemsize

    def features(self, *, in_memory: bool = True) -> Features:
        """All rows, in the order of the structures: one copy in memory, or read as they are asked for."""
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

    def _block_path(self, number: int) -> Path:
        return self.path / "blocks" / f"{number:06d}"

    def _array(self, number: int, name: str) -> Any:
        return zarr.open_array(self._block_path(number) / name, mode="r")


class StoredRows:
    """The rows of all blocks as one matrix (rows, dim), read a whole block at a time; the last is kept."""

    def __init__(self, blocks: Sequence[Any]) -> None:
        self._blocks = blocks
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
                self._last = number, np.asarray(self._blocks[number][:])
            found[here] = self._last[1][rows[here] - self._starts[number]]
        return found


def open_store(path: str | Path) -> FeatureStore:
    """Open a store that `embed` wrote.

    Raises:
        FeatureError: there is none, or one of another format.
    """
    return FeatureStore(path)


def embed(
    structures: Iterable[Atoms],
    feature_map: StorableFeatureMap,
    path: str | Path,
    *,
    block: int = BLOCK,
    dtype: Literal["float32", "float64"] = "float32",
    on_progress: Callable[[int], None] | None = None,
) -> FeatureStore:
    """Features of all structures, written block by block; the same call continues where a killed one stopped.

    Args:
        structures: read once, a block at a time; the same ones in the same order when a store is continued.
        feature_map: any that has `settings`.
        path: the store's folder, made if it is not there.
        block: structures a block; the memory needed grows with it, not with the number of structures.
        dtype: of the rows on disk.
        on_progress: called with the number of structures finished so far.

    Raises:
        FeatureError: the folder holds features of another potential, feature map, or list of structures.
        SurveyorError: the folder cannot be written.
    """
    if block < 1:
        raise FeatureError(f"block={block}", expected="one structure a block or more")
    path = Path(path)
    try:
        store = _create_or_open(path, feature_map, block, dtype)
        (path / "blocks").mkdir(exist_ok=True)
        for partial in (path / "blocks").glob(".*"):
            shutil.rmtree(partial)
        done = store.n_blocks
        finished = 0
        for number, todo in enumerate(_batched(structures, store.block)):
            ids = [structure_id(atoms) for atoms in todo]
            if number < done:
                _check_same(store, number, ids)
            elif store.complete:
                raise _other_structures(path, f"more structures than the {finished} of the complete store")
            else:
                _write_block(store, number, feature_map(todo), ids)
            finished += len(todo)
            if on_progress is not None:
                on_progress(finished)
        if finished < len(store):
            raise _other_structures(path, f"{finished} structures; {len(store)} are embedded there already")
        if not store.complete:
            _rename_when_whole(path / "complete", lambda folder: zarr.open_group(folder, mode="w"))
    except OSError as error:
        raise write_error(path, error) from error
    return store


def _batched(structures: Iterable[Atoms], size: int) -> Iterator[list[Atoms]]:
    iterator = iter(structures)
    while batch := list(islice(iterator, size)):
        yield batch


def _create_or_open(path: Path, feature_map: StorableFeatureMap, block: int, dtype: str) -> FeatureStore:
    settings = json.loads(json.dumps(dict(feature_map.settings)))
    if not (path / "zarr.json").exists():
        if path.exists() and any(entry for entry in path.iterdir() if not entry.name.startswith(".")):
            raise FeatureError(
                f"{path} is not empty and no feature store", expected="a new folder, or a feature store"
            )
        path.mkdir(parents=True, exist_ok=True)
        attributes = {
            "surveyor_features": FORMAT,
            "settings": settings,
            "dim": feature_map.dim,
            "dtype": dtype,
            "block": block,
        }

        def fill(folder: Path) -> None:
            zarr.open_group(folder, mode="w", attributes=attributes)

        made = _made_whole(path / ".group", fill)
        (made / "zarr.json").replace(path / "zarr.json")
        shutil.rmtree(made)
    store = FeatureStore(path)
    if difference := store.differing({"block": block, "dtype": dtype, **settings}):
        key, there, now = difference
        raise FeatureError(
            f"the feature store {path} was made with {key} {_short(there)}, now asked with {_short(now)}",
            expected="the same potential, feature map and settings throughout a store",
            todo="choose another folder, or go on with the settings that the store was begun with",
        )
    return store


def _short(value: object) -> str:
    text = str(value)
    return text[:12] + "…" if len(text) > 40 else text


def _check_same(store: FeatureStore, number: int, ids: list[str]) -> None:
    stored = store.block_ids(number)
    if stored != ids:
        differing = [i for i, (a, b) in enumerate(zip(stored, ids, strict=False)) if a != b]
        where = number * store.block + (differing[0] if differing else min(len(stored), len(ids)))
        raise _other_structures(store.path, f"another structure at position {where}")


def _other_structures(path: Path, got: str) -> FeatureError:
    return FeatureError(
        f"{path}: {got}",
        expected="the structures that the store was begun with, in the same order",
        todo="choose another folder for these structures",
    )


def _write_block(store: FeatureStore, number: int, features: Features, ids: list[str]) -> None:
    if features.dim != store.dim:
        raise FeatureError(
            f"features of width {features.dim}", expected=f"width {store.dim}, as in {store.path}"
        )
    with np.errstate(over="ignore"):  # what overflows is refused as not finite
        narrow = Features(features.values.astype(store.dtype), features.owner, features.n_structures)
    letters = np.array([list(name.encode("ascii")) for name in ids], dtype=np.uint8)
    arrays = {
        "values": narrow.values,
        "owner": narrow.owner.astype(np.int64),
        "ids": letters,
    }

    def fill(folder: Path) -> None:
        zarr.open_group(folder, mode="w")
        for name, array in arrays.items():
            zarr.create_array(folder / name, data=array, chunks=array.shape)

    _rename_when_whole(store._block_path(number), fill)


def _made_whole(partial: Path, fill: Callable[[Path], object]) -> Path:
    """A folder that is filled and on disk."""
    if partial.exists():
        shutil.rmtree(partial)
    fill(partial)
    for file in partial.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    return partial


def _rename_when_whole(path: Path, fill: Callable[[Path], object]) -> None:
    _made_whole(path.with_name(f".{path.name}.partial"), fill).replace(path)
