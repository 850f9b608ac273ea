"""What the label of each structure costs: from its size, or from a number that it carries."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from ase import Atoms

from surveyor.errors import StructureError
from surveyor.types import Float64Array

_SIZE = re.compile(r"atoms(?:\^(\d+(?:\.\d+)?))?")


def prices(structures: Iterable[Atoms], cost: str) -> Float64Array:
    """One positive price per structure (structures,).

    Args:
        cost: `atoms^3` for the cube of the number of atoms, any power likewise; else a key of `info` under
            which every structure carries its price, in any unit.

    Raises:
        StructureError: a structure lacks the key, or its price is not a positive number.
    """
    if size := _SIZE.fullmatch(cost):
        return np.array([float(len(atoms)) for atoms in structures]) ** float(size[1] or 1)
    return np.array([_price(atoms, cost, number) for number, atoms in enumerate(structures)])


def _price(atoms: Atoms, key: str, number: int) -> float:
    if key not in atoms.info:
        raise StructureError(
            f"structure {number} of the pool has no '{key}' in info; keys there: "
            + (", ".join(sorted(atoms.info)) or "none"),
            expected="a positive number under that key in every structure, such as core-seconds",
            todo="write the costs into the file, or take a power of the size: --cost atoms^3",
        )
    try:
        price = float(atoms.info[key])
    except (TypeError, ValueError):
        price = float("nan")
    if not (np.isfinite(price) and price > 0):
        raise StructureError(
            f"structure {number} of the pool: {key} = {atoms.info[key]!r}", expected="a positive number"
        )
    return price
