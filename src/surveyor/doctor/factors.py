"""Which unit a factor betrays."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ase.units import Bohr, Hartree, Rydberg, kcal, kJ, mol

ENERGY_FACTORS = {
    "kcal/mol": mol / kcal,
    "kJ/mol": mol / kJ,
    "Hartree": 1 / Hartree,
    "Rydberg": 1 / Rydberg,
    "meV": 1e3,
}
"""Number in that unit / number in eV."""

FORCE_FACTORS = {
    "kcal/mol/Å": mol / kcal,
    "kJ/mol/Å": mol / kJ,
    "kJ/mol/nm": 10 * mol / kJ,
    "kcal/mol/Bohr": mol / kcal * Bohr,
    "Hartree/Bohr": Bohr / Hartree,
    "Hartree/Å": 1 / Hartree,
    "Rydberg/Bohr": Bohr / Rydberg,
    "eV/Bohr": Bohr,
    "meV/Å": 1e3,
}
"""Number in that unit / number in eV/Å."""

RANGE = 3.0
"""Factors within [1/3, 3] are a potential's own error, or the difference of two methods."""
REACH = 1.6
"""A measured ratio names a unit that is at most this factor away."""
TIE = 1.3
"""Units whose distances differ by less than this factor are named together."""


def named(ratio: float, factors: Mapping[str, float]) -> list[str]:
    """Units whose factor is nearest to the ratio, closest first; none where all are too far."""
    distance = {name: abs(math.log(ratio / factor)) for name, factor in factors.items()}
    closest = min(distance.values())
    if closest > math.log(REACH):
        return []
    return sorted((n for n, d in distance.items() if d < closest + math.log(TIE)), key=distance.__getitem__)


def usual(ratio: float) -> bool:
    """Whether labels and predictions are of one size, whatever the sign."""
    return 1 / RANGE < abs(ratio) < RANGE


def factor_text(ratio: float) -> str:
    """What may be wrong where energy changes are `ratio` times the work of the forces."""
    energies = named(ratio, ENERGY_FACTORS)
    forces = named(1 / ratio, FORCE_FACTORS)
    parts = [f"energies in {' or '.join(energies)}"] if energies else []
    parts += [f"forces in {' or '.join(forces)}"] if forces else []
    return ", or ".join(parts) if parts else f"no unit explains the factor {ratio:.3g}"
