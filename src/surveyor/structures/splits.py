"""Splits by reaction or trajectory: neighbouring frames never stand on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from surveyor.errors import StructureError
from surveyor.types import IndexArray


def split_by_group(
    structures: Sequence[Atoms], fraction: float, *, key: str = "reaction", seed: int
) -> tuple[IndexArray, IndexArray]:
    """Indices of two parts such that no group stands in both.

    Groups are drawn in seeded random order until the second part holds at least `fraction` of the
    structures.

    Args:
        fraction: share of the structures in the second part, between 0 and 1.
        key: the `info` key that names the group.

    Raises:
        StructureError: a structure lacks the key, there is only one group, or the fraction is not in (0, 1).
    """
    if not 0 < fraction < 1:
        raise StructureError(f"a split fraction of {fraction}", expected="a number between 0 and 1")
    lacking = [i for i, atoms in enumerate(structures) if key not in atoms.info]
    if lacking:
        raise StructureError(
            f"frame {lacking[0]} has no '{key}' in info",
            expected=f"every frame names its {key}",
            todo="name another key to split by; a split by frame would leak neighbours",
        )
    names = np.array([str(atoms.info[key]) for atoms in structures])
    groups = np.unique(names)
    if len(groups) < 2:
        raise StructureError(f"{len(groups)} group under '{key}'", expected="at least two groups to split")
    order = np.random.default_rng(seed).permutation(groups)
    sizes = np.array([(names == group).sum() for group in order])
    enough = int(np.searchsorted(np.cumsum(sizes), fraction * len(names))) + 1
    second = np.isin(names, order[: min(enough, len(groups) - 1)])
    return np.flatnonzero(~second), np.flatnonzero(second)
