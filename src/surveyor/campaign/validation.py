"""Which labelled structures train, and which choose the best epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ase import Atoms


def split_validation(
    labelled: Mapping[str, Atoms], fraction: float, seed: int
) -> tuple[list[Atoms], list[Atoms]]:
    """Training and validation structures; a structure keeps its side when others are added.

    The side follows from a hash of seed and id. From ten structures on, at least one validates; at least one
    trains. Both are in the order of the ids: labels arrive in any order, and batches follow the file.
    """
    place = {
        name: int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()[:8], 16) / 16**8 for name in labelled
    }
    chosen = {name for name in labelled if place[name] < fraction}
    if not chosen and len(labelled) >= 10 and fraction > 0:
        chosen = {min(place, key=lambda name: place[name])}
    if len(chosen) == len(labelled):
        chosen = set()
    ordered = sorted(labelled)
    train = [labelled[name] for name in ordered if name not in chosen]
    return train, [labelled[name] for name in ordered if name in chosen]
