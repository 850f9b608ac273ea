"""Per-element reference energies, re-fitted to the labels at hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from surveyor.errors import TrainingError
from surveyor.structures.labels import labels_of
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
    energies = np.array([labels_of(atoms, f"frame {i}").energy for i, atoms in enumerate(structures)])
    predicted = np.array([labels.energy for labels in potential.predict(structures)])
    counts = np.array([[(atoms.numbers == z).sum() for z in potential.elements] for atoms in structures])
    sizes = counts.sum(axis=1)
    shifts, *_ = np.linalg.lstsq(counts / sizes[:, None], (energies - predicted) / sizes, rcond=1e-8)
    return dict(zip(potential.elements, shifts.tolist(), strict=True))
