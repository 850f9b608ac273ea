"""Labels against predictions: fits of energies per element, and factors between the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from surveyor.doctor.factors import FORCE_FACTORS, named, usual
from surveyor.regression import least_absolute
from surveyor.structures.composition import counts, elements_of
from surveyor.structures.identity import total_charge
from surveyor.types import Float64Array, IndexArray

CLEAR = 0.8
"""ρ of a single frame that says something."""
FACTOR = 8.0
"""Factor between a frame's forces and the model's that is not the model's own error."""
ALIKE = 1.5
"""Median factor between frames in one unit."""


@dataclass(frozen=True, eq=False)
class CountFit:
    """Least absolute deviations fit y(x) ≈ Σ_z n_z(x) δ_z + δ_q(x).

    | variable | shape | meaning                                                       | unit |
    |----------|-------|---------------------------------------------------------------|------|
    | shifts   |       | atomic number → δ_z, the solution of least norm               | eV   |
    | fitted   | (m,)  | Σ_z n_z δ_z + δ_q                                             | eV   |
    | rank     |       | number of element combinations that the structures tell apart |      |
    """

    shifts: dict[int, float]
    fitted: Float64Array
    rank: int


def fit_counts(structures: Sequence[Atoms], values: Float64Array) -> CountFit:
    """min_δ Σ_x |y(x) − Σ_z n_z(x) δ_z − δ_q(x)| / n(x), by `least_absolute`.

    δ_q, one constant for each total charge but the commonest, is there because a potential that does not
    know the charge is off by a constant for ions.
    """
    elements = elements_of(structures)
    numbers = counts(structures, elements)
    sizes = numbers.sum(axis=1)
    charges = np.array([str(total_charge(atoms)) for atoms in structures])
    names, amounts = np.unique(charges, return_counts=True)
    others = [name for name in names if name != names[amounts.argmax()]]
    design = np.column_stack([numbers, *((charges == name).astype(float) for name in others)])
    solution = least_absolute(
        design / sizes[:, None], values / sizes, floor=1e-6, share=1e-3, iterations=30, cutoff=1e-10
    )
    return CountFit(
        shifts=dict(zip(elements, solution[: len(elements)].tolist(), strict=True)),
        fitted=design @ solution,
        rank=int(np.linalg.matrix_rank(numbers)),
    )


def differences(structures: Sequence[Atoms], energies: Float64Array) -> Float64Array:
    """(n,) energies less what the best energies per element explain of them."""
    return energies - fit_counts(structures, energies).fitted


@dataclass(frozen=True)
class Likeness:
    """y against x: correlation ρ, and the factor k = Σ y² / Σ xy by which y is larger."""

    correlation: float
    ratio: float


def likeness(x: Float64Array, y: Float64Array) -> Likeness:
    """ρ = Σ xy / √(Σ x² Σ y²) and k = Σ y² / Σ xy, both clipped at their 98th percentile of size.

    x are predictions and y labels. The inverse regression for k is unbiased where x is y/k plus the
    potential's error, so a poor potential lowers ρ and leaves k.
    """
    if len(x) < 3 or not np.any(x) or not np.any(y):
        return Likeness(0.0, 1.0)
    a = np.clip(x, *(np.percentile(np.abs(x), 98) * np.array([-1, 1])))
    b = np.clip(y, *(np.percentile(np.abs(y), 98) * np.array([-1, 1])))
    product, squares = float(a @ b), float(b @ b)
    size = float(np.sqrt((a @ a) * squares))
    if size == 0 or product == 0:
        return Likeness(0.0, 1.0)
    return Likeness(product / size, squares / product)


def odd_frames(each: Sequence[Likeness], least: float) -> tuple[IndexArray, float, list[str]] | None:
    """A minority of frames whose forces are of another sign or unit, where the potential fits most others.

    Relaxed frames have small forces too, but by all kinds of factors: the factors of a unit are alike.

    Args:
        each: forces of each frame against the predicted ones.
        least: frames that make a mistake of a part.

    Returns:
        (m,) their positions, their factor (−1: gradients), and the units that explain it; or None.
    """
    rho = np.array([one.correlation for one in each])
    factor = np.array([abs(one.ratio) for one in each])
    size = np.array([usual(ratio) for ratio in factor], dtype=bool)
    if not len(each) or (size & (rho > CLEAR)).mean() < 0.5:
        return None
    flipped = np.flatnonzero(size & (rho < -CLEAR))
    if len(flipped) >= least:
        return flipped, -1.0, []
    scaled = np.flatnonzero((rho > CLEAR) & ~((factor > 1 / FACTOR) & (factor < FACTOR)))
    if len(scaled) < least:
        return None
    middle = float(np.median(factor[scaled]))
    units = named(middle, FORCE_FACTORS)
    alike = np.median(np.abs(np.log(factor[scaled] / middle))) < np.log(ALIKE)
    return (scaled, middle, units) if units and alike else None
