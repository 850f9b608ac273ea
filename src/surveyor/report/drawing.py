"""Structures as a page's script draws them: small integers, turned to their flat side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors

MAX_ATOMS = 1000
"""Atoms of the largest structure that is drawn."""
MAX_TOTAL = 300_000
"""Atoms of all structures of a page together."""


def drawings(structures: Mapping[str, Atoms]) -> dict[str, dict[str, Any]]:
    """id → elements, positions in hundredths of an Å, and cell; the first ones where there are too many."""
    found: dict[str, dict[str, Any]] = {}
    total = 0
    for name, atoms in structures.items():
        if len(atoms) > MAX_ATOMS or total + len(atoms) > MAX_TOTAL:
            continue
        total += len(atoms)
        positions, axes = _flat_side(atoms)
        found[name] = {
            "z": atoms.numbers.tolist(),
            "p": np.rint(100 * positions).astype(int).ravel().tolist(),
        }
        if atoms.pbc.any():
            cell = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0) @ axes
            origin = -atoms.positions.mean(axis=0) @ axes
            found[name]["cell"] = np.rint(100 * np.vstack([origin, cell])).astype(int).ravel().tolist()
    return found


def element_styles(drawn: Mapping[str, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Symbol, covalent radius in Å and CPK colour of every element that is drawn."""
    numbers = sorted({number for drawing in drawn.values() for number in drawing["z"]})
    return {
        number: {
            "s": chemical_symbols[number],
            "r": round(float(covalent_radii[number]), 2),
            "c": "#" + "".join(f"{round(255 * float(share)):02x}" for share in jmol_colors[number]),
        }
        for number in numbers
    }


def _flat_side(
    atoms: Atoms,
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]:
    """Positions about their mean along the principal axes, longest first, and the axes; never mirrored."""
    centred = atoms.positions - atoms.positions.mean(axis=0)
    _, _, rows = np.linalg.svd(centred, full_matrices=True)
    axes = rows.T
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    return centred @ axes, axes
