"""Writing a store: in bounded memory, and on from where it stopped."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import zarr
from ase import Atoms

from surveyor.errors import FeatureError
from surveyor.features.store import (
    BLOCK,
    CHECKSUM,
    FORMAT,
    FeatureStore,
    StoreError,
    checksum,
)
from surveyor.structures.identity import structure_id
from surveyor.structures.source import StructureFile
from surveyor.structures.validation import each_structure
from surveyor.structures.writing import write_error
from surveyor.types import Features, StorableFeatureMap, StructureSource


def embed(
    structures: StructureSource,
    feature_map: StorableFeatureMap,
    path: str | Path,
    *,
    block: int = BLOCK,
    dtype: Literal["float32", "float64"] = "float32",
    on_progress: Callable[[int], None] | None = None,
) -> FeatureStore:
    """Features of all structures, written block by block; the same call continues where a killed one stopped.

    Args:
        structures: a file, or structures, read once, a block at a time; the same ones in the same order
            when a store is continued.
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
    if not hasattr(feature_map, "settings"):
        raise FeatureError(
            f"{type(feature_map).__name__} where a feature map is expected",
            expected="one of surveyor.features, such as surveyor.features.Tangent(potential, dim=512)",
        )
    stream = StructureFile(Path(structures)) if isinstance(structures, str | Path) else structures
    path = Path(path)
    try:
        store = _create_or_open(path, feature_map, block, dtype)
        (path / "blocks").mkdir(exist_ok=True)
        for partial in (path / "blocks").glob(".*"):
            shutil.rmtree(partial)
        done = store.n_blocks
        finished = 0
        for number, todo in enumerate(_batched(each_structure(stream), store.block)):
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
            raise StoreError(
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
    if store.dim != feature_map.dim and not store.differing(settings):
        raise store.damaged(f"a width of {store.dim}, not {feature_map.dim}")
    if difference := store.differing({"block": block, "dtype": dtype, **settings}):
        key, there, now = difference
        raise StoreError(
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


def _other_structures(path: Path, got: str) -> StoreError:
    return StoreError(
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
        zarr.open_group(folder, mode="w", attributes={CHECKSUM: checksum(arrays)})
        for name, array in arrays.items():
            zarr.create_array(folder / name, data=array, chunks=array.shape)

    _rename_when_whole(store.block_path(number), fill)


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
