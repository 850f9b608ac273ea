"""Where pool, start and test structures lie in feature space, and how they look; written once."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.linalg import eigh

from surveyor.acquisition import Featurised
from surveyor.errors import CampaignError
from surveyor.structures.identity import structure_id, total_charge, total_spin
from surveyor.structures.labels import ENERGY_KEY
from surveyor.structures.writing import whole_file
from surveyor.types import Features, Float64Array, FloatArray, IndexArray

MAP = "map.npz"
KINDS = ("pool", "start", "test")

MAX_POINTS = 5000
"""Pool structures that are kept to be drawn; the axes are fitted to them, too."""
MAX_OTHERS = 2000
"""Start structures, and test structures, that are kept."""
MAX_ATOMS = 100_000
"""Atoms of the kept structures of each kind together: a report holds their positions."""

BLOCK = 4096


@dataclass(frozen=True, eq=False)
class LatentMap:
    """Principal components of the feature rows, a structure a point.

        y(x) = V (φ(x) − φ̄),   V: the two leading eigenvectors of the pool sample's covariance

    | symbol | variable  | shape       | meaning                                                        |
    |--------|-----------|-------------|----------------------------------------------------------------|
    | y      | pool      | (pool, 2)   | every pool structure, in the order of the pool                 |
    |        | start     | (start, 2)  | structures that were labelled at the start                     |
    |        | test      | (test, 2)   | test structures                                                |
    |        | explained | (2,)        | share of the sample's variance along each axis                 |
    |        | kept      |             | of pool, start and test: positions of the structures kept      |
    |        | frames    |             | those structures, of pool, start and test                      |
    """

    pool: Float64Array
    start: Float64Array
    test: Float64Array
    explained: Float64Array
    kept: dict[str, IndexArray]
    frames: dict[str, list[Atoms]]


def principal_axes(rows: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Mean (dim,), two principal axes (2, dim) and their shares of the variance (2,).

    The largest component of an axis is positive. An axis along which nothing varies is zero.
    """
    mean = rows.mean(axis=0)
    centred = rows - mean
    wide = centred.shape[1] > centred.shape[0]
    product = centred @ centred.T if wide else centred.T @ centred
    size = len(product)
    values, vectors = eigh(product, subset_by_index=[max(0, size - 2), size - 1])
    total = float(np.trace(product))
    axes, shares = np.zeros((2, rows.shape[1])), np.zeros(2)
    for place, (value, vector) in enumerate(zip(values[::-1], vectors.T[::-1], strict=True)):
        if value > 1e-12 * total:
            axis = centred.T @ vector / np.sqrt(value) if wide else vector
            axes[place] = axis * np.sign(axis[np.abs(axis).argmax()])
            shares[place] = value / total
    return mean, axes, shares


def write_map(
    folder: Path,
    pool: Featurised,
    start: Featurised,
    test: Featurised,
    structures: dict[str, Iterable[Atoms]],
    *,
    seed: int,
) -> None:
    """Write the coordinates of all structures, and a seeded sample of the structures themselves.

    A map that is there and of as many pool and start structures is left alone.

    Args:
        folder: of the campaign.
        structures: under `pool`, `start` and `test`, in the order of the features.
        seed: of the sample.

    Raises:
        SurveyorError: the files cannot be written.
    """
    there = read_map(folder)
    if there is not None and (len(there.pool), len(there.start)) == (len(pool), len(start)):
        return
    rng = np.random.default_rng(seed)
    parts = {"pool": pool, "start": start, "test": test}
    rows = {name: _first_rows(part.features) for name, part in parts.items()}
    mean, axes, explained = principal_axes(
        np.asarray(rows["pool"][_sample(len(pool), MAX_POINTS, rng)], dtype=np.float64)
    )
    arrays: dict[str, NDArray[Any]] = {name: _project(values, mean, axes) for name, values in rows.items()}
    for name, part in parts.items():
        places = _sample(len(part), MAX_POINTS if name == "pool" else MAX_OTHERS, rng)
        chosen = _take(structures[name], places)
        within = _within_budget([len(atoms) for atoms in chosen], rng)
        arrays[f"{name}_kept"] = places[within]
        packed = _pack([chosen[place] for place in within])
        arrays |= {f"{name}_{key}": values for key, values in packed.items()}
    with whole_file(folder / MAP) as file:
        np.savez_compressed(file, allow_pickle=False, explained=explained, **arrays)


def read_map(folder: Path) -> LatentMap | None:
    """The map of a campaign; None where it has none yet.

    Raises:
        CampaignError: it is damaged.
    """
    path = folder / MAP
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        return LatentMap(
            **{name: arrays[name].astype(np.float64) for name in KINDS},
            explained=arrays["explained"],
            kept={name: arrays[f"{name}_kept"] for name in KINDS},
            frames={name: _unpack(arrays, f"{name}_") for name in KINDS},
        )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise CampaignError(
            f"{path} cannot be read: {error!r}",
            expected="a file that Surveyor wrote",
            todo="delete it; the next round writes it again",
        ) from error


def _pack(frames: Sequence[Atoms]) -> dict[str, NDArray[Any]]:
    """What a drawing needs, as flat arrays: a text format takes a hundred times as long to read."""
    positions = [atoms.positions for atoms in frames]
    groups = [str(atoms.info.get("reaction", atoms.info.get("config_type", ""))) for atoms in frames]
    return {
        "ids": np.array([structure_id(atoms) for atoms in frames], dtype=np.str_),
        "sizes": np.array([len(atoms) for atoms in frames], dtype=np.int64),
        "numbers": np.concatenate([np.zeros(0, dtype=np.int16), *(atoms.numbers for atoms in frames)]),
        "positions": np.concatenate([np.zeros((0, 3)), *positions]).astype(np.float32),
        "cells": np.array([atoms.cell.array for atoms in frames], dtype=np.float32).reshape(-1, 3, 3),
        "pbc": np.array([atoms.pbc for atoms in frames], dtype=bool).reshape(-1, 3),
        "states": np.array([(total_charge(a), total_spin(a)) for a in frames], dtype=np.int64).reshape(-1, 2),
        "energies": np.array([atoms.info.get(ENERGY_KEY, np.nan) for atoms in frames], dtype=np.float64),
        "groups": np.array(groups, dtype=np.str_),
    }


def _unpack(arrays: Mapping[str, NDArray[Any]], prefix: str) -> list[Atoms]:
    (ids, sizes, numbers, positions, cells, pbc, states, energies, groups) = (
        arrays[prefix + key]
        for key in (
            "ids", "sizes", "numbers", "positions", "cells", "pbc", "states", "energies", "groups",
        )
    )  # fmt: skip
    frames = []
    ends = np.cumsum(sizes)
    for i, (begin, end) in enumerate(zip(ends - sizes, ends, strict=True)):
        atoms = Atoms(numbers[begin:end], positions[begin:end], cell=cells[i], pbc=pbc[i])
        charge, spin = states[i].tolist()
        atoms.info = {"surveyor_id": str(ids[i]), "total_charge": charge, "total_spin": spin}
        if np.isfinite(energies[i]):
            atoms.info[ENERGY_KEY] = float(energies[i])
        if groups[i]:
            atoms.info["reaction"] = str(groups[i])
        frames.append(atoms)
    return frames


def _first_rows(features: Features) -> FloatArray:
    """One row a structure: the energy row where a structure has several."""
    if len(features.values) == features.n_structures:
        return features.values
    return features.values[np.searchsorted(features.owner, np.arange(features.n_structures))]


def _project(rows: FloatArray, mean: Float64Array, axes: Float64Array) -> NDArray[np.float32]:
    """Coordinates (rows, 2); in float64, a block at a time."""
    found = np.empty((len(rows), 2), dtype=np.float32)
    for begin in range(0, len(rows), BLOCK):
        block = np.asarray(rows[begin : begin + BLOCK], dtype=np.float64)
        found[begin : begin + BLOCK] = (block - mean) @ axes.T
    return found


def _sample(n: int, size: int, rng: np.random.Generator) -> IndexArray:
    if n <= size:
        return np.arange(n, dtype=np.intp)
    return np.sort(rng.choice(n, size=size, replace=False)).astype(np.intp)


def _within_budget(sizes: Sequence[int], rng: np.random.Generator) -> IndexArray:
    """Places of as many structures, drawn at random, as have no more than MAX_ATOMS atoms together."""
    order = rng.permutation(len(sizes))
    total = np.cumsum(np.asarray(sizes, dtype=np.intp)[order])
    return np.sort(order[: int(np.searchsorted(total, MAX_ATOMS, side="right"))])


def _take(structures: Iterable[Atoms], places: IndexArray) -> list[Atoms]:
    wanted = set(places.tolist())
    return [atoms for index, atoms in enumerate(structures) if index in wanted]
