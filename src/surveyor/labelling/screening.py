"""Labels that nobody should train on before a person has looked at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from pydantic import PositiveFloat

from surveyor.regression import least_absolute, spread
from surveyor.settings import Settings
from surveyor.structures.composition import elements_of, shares
from surveyor.structures.labels import labels_of

ENOUGH = 30
"""Labels from which the energies are looked at: fewer do not say what is usual."""

MIN_SPREAD = 1e-3
"""eV/atom. Energies that agree better than this make no outlier."""

DOUBT = "surveyor_doubt"
"""The key under which a label carries what its own code doubted."""


class Screening(Settings):
    """Which labels are suspicious.

    | field     | a label is suspicious when                                                     | unit |
    |-----------|--------------------------------------------------------------------------------|------|
    | max_force | the force on an atom is longer; None: any length goes                      | eV/Å |
    | outlier   | its energy is this many robust standard deviations off the others; None: never |      |

    The energy that is compared is the residual per atom of a per-element fit (of least absolute residuals),

        r(x) = [E(x) − Σ_z n_z(x) δ_z] / n(x),     s = 1.4826 · median |r − median r|

    and a label is an outlier where |r − median r| > outlier · s. Labels for active learning are unusual on
    purpose, so only gross errors (another unit, another electronic state) should be caught: 20 by default.
    """

    max_force: PositiveFloat | None = 100.0
    outlier: PositiveFloat | None = 20.0

    def suspicious(self, new: Mapping[str, Atoms], known: Sequence[Atoms]) -> dict[str, str]:
        """id → reason, for those of the new labels that are suspicious; the known ones are compared with."""
        reasons: dict[str, str] = {}
        deviations = self._deviations(list(new.values()), known)
        for (name, atoms), (off, usual) in zip(new.items(), deviations, strict=True):
            force = float(np.linalg.norm(labels_of(atoms).forces, axis=1).max(initial=0.0))
            if DOUBT in atoms.info:
                reasons[name] = str(atoms.info[DOUBT])
            elif self.max_force is not None and force > self.max_force:
                reasons[name] = f"a force of {force:.1f} eV/Å, above the limit of {self.max_force:g}"
            elif self.outlier is not None and abs(off) > self.outlier * usual:
                reasons[name] = (
                    f"energy {off:+.3f} eV/atom off the other labels, {abs(off) / usual:.0f} robust "
                    f"standard deviations; the limit is {self.outlier:g}"
                )
        return reasons

    def _deviations(self, new: Sequence[Atoms], known: Sequence[Atoms]) -> list[tuple[float, float]]:
        """(r − median r, s) of each new label; (0, 1) where there are too few labels to tell."""
        structures = [*new, *known]
        if self.outlier is None or len(structures) < ENOUGH:
            return [(0.0, 1.0)] * len(new)
        energies = np.array([labels_of(atoms).energy / len(atoms) for atoms in structures])
        composition = shares(structures, elements_of(structures))
        # Least squares would bend to the very labels that are looked for.
        left = energies - composition @ least_absolute(composition, energies, floor=MIN_SPREAD)
        off, usual = left - np.median(left), max(spread(left), MIN_SPREAD)
        return [(float(value), usual) for value in off[: len(new)]]
