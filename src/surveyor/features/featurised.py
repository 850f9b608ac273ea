"""Features that know which structures they are of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from ase import Atoms

from surveyor.structures.identity import structure_id
from surveyor.types import FeatureMap, Features

BLOCK = 256

Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Featurised:
    """Features of structures, and the ids that they belong to."""

    features: Features
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def featurise(
    structures: Iterable[Atoms], feature_map: FeatureMap, *, on_progress: Progress | None = None
) -> Featurised:
    """Features of a stream of structures, in float32 rows, holding one block of structures at a time."""
    stream = iter(structures)
    parts: list[Features] = []
    ids: list[str] = []
    while block := list(islice(stream, BLOCK)):
        features = feature_map(block)
        parts.append(Features(features.values.astype(np.float32), features.owner, features.n_structures))
        ids.extend(structure_id(atoms) for atoms in block)
        if on_progress:
            on_progress(len(block))
    features = Features.concatenate(parts) if parts else Features.empty(feature_map.dim)
    return Featurised(features, tuple(ids))
