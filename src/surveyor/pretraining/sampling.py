"""Seeded samples of labelled frames, in the order of the frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms


def thin(frames: list[Atoms], limit: int | None, seed: int) -> list[Atoms]:
    """A sample of `limit` frames; all of them where there are fewer."""
    if limit is None or len(frames) <= limit:
        return frames
    chosen = np.sort(np.random.default_rng([seed, 5]).choice(len(frames), size=limit, replace=False))
    return [frames[i] for i in chosen]


def representative(frames: list[Atoms], size: int, seed: int) -> list[Atoms]:
    """A sample in which each kind of frame at each charge has its natural share.

    Few kinds make most of the error: by mere chance they would be too many or too few.
    """
    if len(frames) <= size:
        return frames
    rng = np.random.default_rng([seed, 13])
    kinds: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index in rng.permutation(len(frames)):
        info = frames[index].info
        kinds[str(info.get("config_type", "")), int(info.get("total_charge", 0))].append(int(index))
    members = [kinds[kind] for kind in sorted(kinds)]
    shares = natural_shares([len(indices) for indices in members], size)
    chosen = [index for indices, share in zip(members, shares, strict=True) for index in indices[:share]]
    return [frames[index] for index in sorted(chosen)]


def natural_shares(counts: Sequence[int], size: int) -> list[int]:
    """`size` divided in the proportions of `counts`, by largest remainders."""
    exact = np.array(counts) * size / sum(counts)
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: size - shares.sum()]] += 1
    return [int(share) for share in shares]
