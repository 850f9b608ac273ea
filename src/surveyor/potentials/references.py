"""Per-element reference energies, re-fitted to the labels at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ase import Atoms
from ase.data import chemical_symbols

from surveyor.errors import TrainingError
from surveyor.metrics import residuals
from surveyor.potentials.base import Shiftable, require
from surveyor.structures.composition import element_offsets
from surveyor.types import Potential


def refit_reference_energies(potential: Potential, structures: Sequence[Atoms]) -> dict[int, float]:
    """Shifts of the atomic energies that bring the potential's energies closest to the labels.

    min_δ Σ_x [(E_ref(x) − E(x) − Σ_z n_z(x) δ_z) / n(x)]²; of all minima the one of least |δ|, so that
    elements which the labels cannot tell apart share the shift, and absent elements keep their energy.

    | variable | meaning                                                   | unit |
    |----------|-----------------------------------------------------------|------|
    | E_ref, E | label and prediction of structure x                       | eV   |
    | n_z, n   | number of atoms of element z, and of all                  |      |
    | δ_z      | shift of element z, the result                            | eV   |

    Returns:
        Atomic number → δ_z, for every element of the potential.

    Raises:
        TrainingError: no structures.
    """
    if not structures:
        raise TrainingError("no labelled structure to fit reference energies to", expected="at least one")
    residual, _ = residuals(potential, structures)
    shifts = element_offsets(residual, structures, potential.elements)
    return dict(zip(potential.elements, shifts.tolist(), strict=True))


def shifted_to(potential: Potential, structures: Sequence[Atoms]) -> Potential:
    """The potential with reference energies re-fitted to labelled structures.

    Raises:
        PotentialError: the potential is not `Shiftable`.
        TrainingError: no structures.
    """
    shiftable = require(potential, Shiftable, "fitting reference energies to labels")
    return shiftable.with_reference_shifts(refit_reference_energies(potential, structures))


def shifts_to(
    own: Mapping[int, float], references: Mapping[int, float], structures: Sequence[Atoms]
) -> dict[int, float]:
    """Shifts of the atomic energies to given ones; elements that are not given keep theirs.

    Args:
        own: atomic number → energy in the potential, eV.
        references: atomic number → energy of the isolated atom, eV.
        structures: whose elements must be given.

    Raises:
        TrainingError: an element of the structures is not.
    """
    lacking = {int(z) for atoms in structures for z in atoms.numbers} - references.keys()
    if lacking:
        raise TrainingError(
            f"no isolated atom of {', '.join(chemical_symbols[z] for z in sorted(lacking))}",
            expected="one of every element that is trained on",
        )
    return {z: references[z] - energy if z in references else 0.0 for z, energy in own.items()}
