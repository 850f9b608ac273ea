"""Seeded samples of labelled frames, in the order of the frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from surveyor.types import FloatArray


def thin(frames: list[Atoms], limit: int | None, seed: int) -> list[Atoms]:
    """A sample of `limit` frames; all of them where there are fewer."""
    if limit is None or len(frames) <= limit:
        return frames
    chosen = np.sort(np.random.default_rng([seed, 5]).choice(len(frames), size=limit, replace=False))
    return [frames[i] for i in chosen]


def representative(frames: Sequence[Atoms], errors: FloatArray, size: int) -> list[Atoms]:
    """A sample whose mean error is that of all frames, nearly: frames at equal steps of their order.

    Few frames make most of a mean error, and by mere chance a sample has too many or too few of them. The
    order is by kind of frame, charge and error, so that each kind has its share, too.

    Args:
        frames: with `config_type` and `total_charge` in their info.
        errors: (n,), of a model on each frame.
        size: all frames where there are not more.
    """
    n = len(frames)
    if n <= size:
        return list(frames)
    kinds = np.array([str(atoms.info.get("config_type", "")) for atoms in frames])
    charges = np.array([int(atoms.info.get("total_charge", 0)) for atoms in frames])
    order = np.lexsort((errors, charges, kinds))
    chosen = order[((np.arange(size) + 0.5) * n / size).astype(int)]
    return [frames[i] for i in np.sort(chosen)]
