"""A small, diverse part of the training frames, to be replayed when the potential is fine-tuned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms


def replay_subset(frames: Sequence[Atoms], size: int, seed: int) -> list[Atoms]:
    """A seeded subset: kinds of frames in their natural shares, within a kind all combinations of elements.

    Within each `config_type`, one frame of each set of elements is drawn in turn, so that rare combinations
    come before second frames of common ones. The subset keeps the order of the frames.

    Args:
        frames: with `config_type` in their info.
        size: all frames where there are not more.
        seed: of the draw.
    """
    if len(frames) <= size:
        return list(frames)
    rng = np.random.default_rng([seed, 12])
    kinds: dict[str, list[int]] = defaultdict(list)
    for index in rng.permutation(len(frames)):
        kinds[str(frames[index].info.get("config_type", ""))].append(int(index))
    names = sorted(kinds)
    shares = natural_shares([len(kinds[name]) for name in names], size)
    chosen = [
        index
        for name, share in zip(names, shares, strict=True)
        for index in _in_turn(kinds[name], frames)[:share]
    ]
    return [frames[index] for index in sorted(chosen)]


def natural_shares(counts: Sequence[int], size: int) -> list[int]:
    """`size` divided in the proportions of `counts`, by largest remainders."""
    exact = np.array(counts) * size / sum(counts)
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: size - shares.sum()]] += 1
    return [int(share) for share in shares]


def _in_turn(indices: Sequence[int], frames: Sequence[Atoms]) -> list[int]:
    """The first frame of each set of elements, then the second of each, and so on."""
    seen: dict[tuple[int, ...], int] = defaultdict(int)
    turns = []
    for index in indices:
        elements = tuple(np.unique(frames[index].numbers).tolist())
        turns.append(seen[elements])
        seen[elements] += 1
    return [indices[i] for i in np.argsort(turns, kind="stable")]
