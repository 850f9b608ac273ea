"""Errors of a potential on labelled frames: in total, by element, by size, by the way a frame was made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from surveyor.types import Float64Array, Labels


def errors(
    frames: Sequence[Atoms], predicted: Sequence[Labels], group: Callable[[Atoms], str]
) -> dict[str, Any]:
    """Errors in total and by group, element and size.

    | value                     | unit      |
    |---------------------------|-----------|
    | energy_mae, energy_rmse   | meV/atom  |
    | forces_mae, forces_rmse   | meV/Å, over components |
    """
    rows: dict[str, dict[str, list[int]]] = {"group": defaultdict(list), "size": defaultdict(list)}
    by_element: dict[str, list[Float64Array]] = defaultdict(list)
    energy = np.zeros(len(frames))
    forces = []
    for i, (atoms, labels) in enumerate(zip(frames, predicted, strict=True)):
        energy[i] = (labels.energy - atoms.info["REF_energy"]) / len(atoms)
        difference = labels.forces - atoms.arrays["REF_forces"]
        forces.append(difference)
        rows["group"][group(atoms)].append(i)
        rows["size"][_size(atoms)].append(i)
        for number in np.unique(atoms.numbers):
            by_element[chemical_symbols[number]].append(difference[atoms.numbers == number])

    def summary(index: Sequence[int]) -> dict[str, float | int]:
        de = energy[list(index)] * 1000
        df = np.concatenate([forces[i] for i in index]) * 1000
        return {
            "frames": len(index),
            "energy_mae": _digits(np.abs(de).mean()),
            "energy_rmse": _digits(np.sqrt((de**2).mean())),
            "forces_mae": _digits(np.abs(df).mean()),
            "forces_rmse": _digits(np.sqrt((df**2).mean())),
        }

    return {
        "total": summary(range(len(frames))),
        "by_config_type": {name: summary(index) for name, index in sorted(rows["group"].items())},
        "by_heavy_atoms": {name: summary(index) for name, index in sorted(rows["size"].items())},
        "forces_mae_by_element": {
            symbol: _digits(np.abs(np.concatenate(parts)).mean() * 1000)
            for symbol, parts in sorted(by_element.items())
        },
    }


def _size(atoms: Atoms) -> str:
    heavy = int((atoms.numbers > 1).sum())
    return next(f"{low:02d}-{low + 2:02d}" for low in range(0, 999, 3) if heavy <= low + 2)


def _digits(value: float) -> float:
    return round(float(value), 3)
