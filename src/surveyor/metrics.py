"""Errors of a potential on labelled structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.special import stdtrit

from surveyor.errors import StructureError
from surveyor.structures.composition import element_offsets, elements_of, shares
from surveyor.structures.labels import labels_of
from surveyor.types import Float64Array, Labels, Potential

OnProgress = Callable[[int], None]

BLOCK = 256
"""Structures that are predicted from one word about progress to the next."""

MIN_HELD_OUT = 3
"""Held-out structures below which no potential is told apart from another."""

FEW_GROUPS = 5
"""Reactions below which the labels are of a few systems, and each structure judges on its own."""

CHANCE = 0.16
"""Probability with which no gain at all may look like one: that of one standard error. Few structures judge,
and a stricter level turned down corrections that halved the errors of test frames."""


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors on a set of structures.

    | variable    | shape | meaning                                                     | unit     |
    |-------------|-------|-------------------------------------------------------------|----------|
    | energy_mae  |       | mean of |E − E_ref| / n_atoms                               | meV/atom |
    | energy_rmse |       | root mean square of the same                                | meV/atom |
    | force_mae   |       | mean of |F − F_ref| over all atoms and components           | meV/Å    |
    | force_rmse  |       | root mean square of the same                                | meV/Å    |
    | energy_each | (n,)  | |E − E_ref| / n_atoms of each structure                     | meV/atom |
    | force_each  | (n,)  | mean of |F − F_ref| over the components of each structure   | meV/Å    |
    """

    energy_mae: float
    energy_rmse: float
    force_mae: float
    force_rmse: float
    energy_each: Float64Array
    force_each: Float64Array

    def __repr__(self) -> str:
        return (
            f"Errors({len(self.energy_each)} structures: energy MAE {self.energy_mae:.1f} meV/atom, "
            f"force MAE {self.force_mae:.1f} meV/Å)"
        )


def predictions(
    potential: Potential, structures: Sequence[Atoms], on_progress: OnProgress | None = None
) -> list[Labels]:
    """What the potential predicts, a block at a time; how many have come is told after each."""
    found: list[Labels] = []
    for start in range(0, len(structures), BLOCK):
        block = potential.predict(structures[start : start + BLOCK])
        found += block
        if on_progress is not None:
            on_progress(len(block))
    return found


def residuals(
    potential: Potential, structures: Sequence[Atoms], on_progress: OnProgress | None = None
) -> tuple[Float64Array, list[Float64Array]]:
    """Labels minus predictions: (E_ref − E) / n_atoms, (n,) in eV/atom; F_ref − F, (n_atoms, 3) each in eV/Å.

    Raises:
        StructureError: a structure is not labelled.
    """
    labels = [labels_of(atoms, f"frame {i}") for i, atoms in enumerate(structures)]
    return differences(labels, predictions(potential, structures, on_progress))


def differences(
    labels: Sequence[Labels], predicted: Sequence[Labels]
) -> tuple[Float64Array, list[Float64Array]]:
    """Labels minus predictions, as `residuals`."""
    pairs = list(zip(predicted, labels, strict=True))
    energy = np.array([(q.energy - p.energy) / len(q.forces) for p, q in pairs])
    return energy, [q.forces - p.forces for p, q in pairs]


def without_offsets(
    energy: Float64Array, structures: Sequence[Atoms]
) -> tuple[Float64Array, dict[int, float]]:
    """Residuals of energies per atom but one constant an element, and these: atomic number → eV.

    Energies of two levels of theory differ by such constants, which say nothing about a potential: they are
    fitted to the structures and taken off (`element_offsets`).
    """
    elements = elements_of(structures)
    offsets = element_offsets(energy, structures, elements)
    rest = energy - shares(structures, elements) @ offsets
    return rest, dict(zip(elements, offsets.tolist(), strict=True))


def errors_but_offsets(potential: Potential, structures: Sequence[Atoms]) -> tuple[float, float]:
    """Energy MAE (meV/atom) and force MAE (meV/Å) on structures whose level of theory may be another one.

    See `without_offsets`.

    Raises:
        StructureError: there is no structure, or one is not labelled.
    """
    if not structures:
        raise StructureError("no structure to measure errors on", expected="at least one labelled structure")
    energy, force = residuals(potential, structures)
    found = errors_from(without_offsets(energy, structures)[0], force)
    return found.energy_mae, found.force_mae


def errors(
    potential: Potential, structures: Sequence[Atoms], *, on_progress: OnProgress | None = None
) -> Errors:
    """Compare the potential's predictions with the structures' labels.

    Raises:
        StructureError: there is no structure, or one is not labelled.
    """
    if not structures:
        raise StructureError("no structure to measure errors on", expected="at least one labelled structure")
    return errors_from(*residuals(potential, structures, on_progress))


def errors_from(energy: Float64Array, force: Sequence[Float64Array]) -> Errors:
    """The errors of one structure or more, from its `residuals`."""
    components = np.concatenate([difference.ravel() for difference in force])
    return Errors(
        energy_mae=1e3 * float(np.abs(energy).mean()),
        energy_rmse=1e3 * float(np.sqrt((energy**2).mean())),
        force_mae=1e3 * float(np.abs(components).mean()),
        force_rmse=1e3 * float(np.sqrt((components**2).mean())),
        energy_each=1e3 * np.abs(energy),
        force_each=1e3 * np.array([np.abs(difference).mean() for difference in force]),
    )


def enough_held_out(structures: Sequence[Atoms]) -> bool:
    """Whether they can tell one potential from another."""
    return len(structures) >= MIN_HELD_OUT


def relative_change(before: Errors, after: Errors) -> float:
    """Changes of the mean errors of energies and forces, each over what it was, in sum."""
    tiny = np.finfo(np.float64).tiny
    pairs = ((before.energy_mae, after.energy_mae), (before.force_mae, after.force_mae))
    return sum((new - old) / max(old, tiny) for old, new in pairs)


def pays(before: Errors, after: Errors, structures: Sequence[Atoms]) -> bool:
    """Whether errors of held-out structures fell by more than chance between groups of them.

        d_g = mean over group g of  Σ_e log[(e_after + ẽ) / (e_before + ẽ)],    e: |ΔE| / n, and mean |ΔF|

    ẽ, the median of e before, keeps errors that happen to be small from counting for much, as the logarithm
    does the largest one. It pays if Student's one-sided test finds the mean of d over groups below zero, at
    the level `CHANCE`, and if the mean errors, each over what it was, fell in sum. Groups are the `reaction`
    in info, where every structure names one and they name at least `FEW_GROUPS`, or single structures.
    """
    change, total = np.zeros(len(structures)), 0.0
    tiny = np.finfo(np.float64).tiny
    for old, new in ((before.energy_each, after.energy_each), (before.force_each, after.force_each)):
        middle = max(float(np.median(old)), tiny)
        change += np.log((new + middle) / (old + middle))
        total += float((new - old).mean()) / max(float(old.mean()), tiny)
    groups = np.array(_groups(structures))
    means = np.array([change[groups == name].mean() for name in np.unique(groups)])
    sure = float(stdtrit(len(means) - 1, 1 - CHANCE))
    return total < 0 and bool(means.mean() < -sure * means.std(ddof=1) / np.sqrt(len(means)))


def _groups(structures: Sequence[Atoms]) -> list[str]:
    named = [str(atoms.info.get("reaction", "")) for atoms in structures]
    many = all(named) and len(set(named)) >= FEW_GROUPS
    return named if many else [str(number) for number in range(len(structures))]
