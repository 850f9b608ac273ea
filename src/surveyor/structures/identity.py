"""Content-hash ids: the same structure has the same name in every file and on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from surveyor.types import IndexArray

ID_LENGTH = 32


def _micro_angstrom(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Lengths as whole 1e-6 Å, through the 1e-8 Å at which extxyz files store positions.

    Rounding in two integer steps makes the result the same before and after a trip through a file:
    rounding once to 1e-6 would let a value near a half flip when its eighth decimal is cut.
    """
    hundredths = np.rint(np.asarray(values, dtype=np.float64) * 1e8).astype(np.int64)
    return (hundredths + 50) // 100


def total_charge(atoms: Atoms) -> int:
    """Total charge in e, from `total_charge` or `charge` in `info`; 0 where neither stands."""
    return round(float(atoms.info.get("total_charge", atoms.info.get("charge", 0))))


def total_spin(atoms: Atoms) -> int:
    """Spin multiplicity 2S+1, from `total_spin` or `spin` in `info`; 1 where neither stands."""
    return round(float(atoms.info.get("total_spin", atoms.info.get("spin", 1))))


def structure_id(atoms: Atoms) -> str:
    """Content hash of elements, positions (1e-6 Å), cell, pbc, charge and spin multiplicity.

    The order of the atoms counts; labels, names and other `info` do not. The cell counts only along
    periodic directions.

    Returns:
        32 hexadecimal digits.
    """
    pbc = np.asarray(atoms.pbc, dtype=bool)
    cell = np.where(pbc[:, None], np.asarray(atoms.cell.array), 0.0)
    digest = hashlib.sha256()
    for part in (
        np.asarray(atoms.numbers, dtype=np.int64),
        _micro_angstrom(atoms.positions),
        _micro_angstrom(cell),
        pbc.astype(np.int64),
        np.array([total_charge(atoms), total_spin(atoms)], dtype=np.int64),
    ):
        digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        digest.update(b"|")
    return digest.hexdigest()[:ID_LENGTH]


def duplicates(ids: Iterable[str]) -> IndexArray:
    """Positions of ids that stood earlier in the sequence already."""
    seen: set[str] = set()
    repeated = []
    for position, name in enumerate(ids):
        if name in seen:
            repeated.append(position)
        seen.add(name)
    return np.array(repeated, dtype=np.intp)
