"""The features of a campaign's structures, kept in its folder and found again.

features/pool.zarr         and start.zarr, test.zarr, …: one store each, as `surveyor embed` writes them
features/pool-001.zarr     of what was added later
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ase import Atoms

from surveyor.acquisition import Featurised
from surveyor.errors import notice
from surveyor.structures.writing import write_error
from surveyor.types import Features, StorableFeatureMap

FOLDER = "features"
BLOCK = 512
"""Structures that a kill costs at most, and between two signs of progress."""

Look = Callable[[int, Atoms], None]


def stored_features(
    folder: Path,
    parts: Mapping[str, Iterable[Atoms]],
    feature_map: StorableFeatureMap,
    *,
    look: Look = lambda *_: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Featurised:
    """Features of all parts, one after the other; only what no store of the campaign holds is computed.

    Stores of another potential, of other settings or structures, and damaged ones are made again.

    Args:
        folder: of the campaign.
        parts: name of the store → structures, gone through once.
        look: called with position and structure of each; again where a store is made again.
        on_progress: called with the number of structures that came since.
    """
    from surveyor.features.store import joined

    found = [
        _of_part(folder / FOLDER / f"{name}.zarr", structures, feature_map, look, on_progress)
        for name, structures in parts.items()
    ]
    some = [part for part in found if len(part)]
    if not some:
        return Featurised(Features.empty(feature_map.dim), ())
    features = joined([part.features for part in some])
    return Featurised(features, tuple(name for part in some for name in part.ids))


def _of_part(
    path: Path,
    structures: Iterable[Atoms],
    feature_map: StorableFeatureMap,
    look: Look,
    on_progress: Callable[[int], None],
) -> Featurised:
    from surveyor.features.embedding import embed
    from surveyor.features.store import IN_MEMORY, StoreError

    told = 0

    def advance(total: int) -> None:
        nonlocal told
        on_progress(total - told)
        told = total

    def looked_at() -> Iterator[Atoms]:
        for place, atoms in enumerate(structures):
            look(place, atoms)
            yield atoms

    def featurised() -> Featurised:
        store = embed(looked_at(), feature_map, path, block=BLOCK, on_progress=advance)
        if not len(store):
            return Featurised(Features.empty(feature_map.dim), ())
        return Featurised(store.features(in_memory=store.n_bytes <= IN_MEMORY), tuple(store.ids))

    there = path.exists()
    try:
        return featurised()
    except StoreError as error:
        if not there or not (path / "zarr.json").exists():  # what is no store is somebody else's
            raise
        notice(f"{error.got}: these features are computed again")
        try:
            shutil.rmtree(path)
        except OSError as problem:
            raise write_error(path, problem) from problem
        return featurised()
