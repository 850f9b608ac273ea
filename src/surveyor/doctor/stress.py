"""Checks of stresses: their shape, size, unit, sign and order of components."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, GPa, Hartree, Pascal, Rydberg, bar

from surveyor.doctor.dataset import Dataset
from surveyor.doctor.factors import named, usual
from surveyor.doctor.findings import Verdict, error, frames_text, not_checked, ok, warning
from surveyor.doctor.fits import Likeness, likeness
from surveyor.doctor.sampling import Sample
from surveyor.doctor.units import unit_verdict
from surveyor.types import Float64Array

FACTORS: Mapping[str, float] = {
    "kbar": 1 / (1e3 * bar),
    "GPa": 1 / GPa,
    "MPa": 1e3 / GPa,
    "bar": 1 / bar,
    "atm": 1 / (101325 * Pascal),
    "Pa": 1 / Pascal,
    "Hartree/Bohr³": Bohr**3 / Hartree,
    "Rydberg/Bohr³": Bohr**3 / Rydberg,
}
"""Number in that unit / number in eV/Å³."""

HIGHEST = 1.0
"""eV/Å³, 160 GPa; the middle of |stress| over condensed matter that is not at the centre of a planet."""
MIN_FRAMES = 5
ALIKE = 0.5
CLEARER = 0.3
"""By so much ρ of the shear components must rise with another order of theirs."""
OTHER_ORDER = [4, 5, 3]
"""Where yz, xz, xy stand where a file has xy, yz, zx, as VASP and others print them."""


def stress(data: Dataset) -> Verdict:
    """Six finite components (or 3×3) under REF_stress, and median |stress| below 1 eV/Å³ = 160 GPa."""
    names = Counter(name for name in data.stress_name if name is not None)
    if not names:
        return ok("none")
    found = ", ".join(f"'{key}' in {n} of {len(data)} frames" for key, n in names.most_common())
    values = _components(data)
    bad = [i for i, name in enumerate(data.stress_name) if name is not None and i not in values]
    if bad:
        return error(
            f"{found}: not six or nine finite numbers in {frames_text(bad)}",
            "write six components, ASE's xx, yy, zz, yz, xz, xy, in eV/Å³",
        )
    flat = [i for i in values if not data.structures[i].pbc.any()]
    if flat:
        return warning(
            f"{found}, of which {len(flat)} are not periodic ({frames_text(flat)}): a molecule has no stress",
            "take the stress out of these frames",
        )
    size = float(np.median([np.abs(value).max() for value in values.values()]))
    if size > HIGHEST:
        units = [*(u for u, factor in FACTORS.items() if 1e-4 < size / factor < HIGHEST), "eV (virials)"]
        return error(
            f"{found}: components of about {size:.3g} eV/Å³ = {size / GPa:.3g} GPa",
            f"eV/Å³ is expected; these may be in {' or '.join(units)}",
        )
    return ok(f"{found}, up to about {size:.2g} eV/Å³ = {size / GPa:.2g} GPa")


def stress_unit(sample: Sample) -> Verdict:
    """k = Σ σ² / Σ σσ̂ within [1/3, 3] where |ρ(σ, σ̂)| > 0.5; sign and order of the shears likewise."""
    values = _components(sample.data)
    rows = [
        (values[index], predicted, sample.data.structures[index].get_volume())
        for index, predicted in zip(sample.index.tolist(), sample.predicted_stress, strict=True)
        if index in values and predicted is not None
    ]
    if not values:
        return ok("no stresses")
    if len(rows) < MIN_FRAMES:
        return not_checked(f"unit, sign and order: fewer than {MIN_FRAMES} stresses that the model predicts")
    label, model = (np.array([row[part] for row in rows]) for part in (0, 1))
    volume = np.array([row[2] for row in rows])[:, None]
    over = f"over {len(rows)} frames"
    whole = likeness(model.ravel(), label.ravel())
    if abs(whole.correlation) <= ALIKE:
        return not_checked(
            "unit, sign and order: the model's stresses follow the labels too little "
            f"(ρ = {whole.correlation:.2f})"
        )
    virial = likeness(model.ravel(), (label / volume).ravel())
    return (
        _virials(whole, virial, over)
        or _sign(whole, over)
        or (None if usual(whole.ratio) else unit_verdict("stresses", whole, FACTORS, "eV/Å³", over))
        or _order(model, label, over)
        or ok(f"{whole.ratio:.2f} × the model's, ρ = {whole.correlation:.2f} {over}")
    )


def _virials(whole: Likeness, virial: Likeness, over: str) -> Verdict | None:
    """The labels per volume are of the model's size, and the labels themselves are not."""
    if usual(whole.ratio) or not usual(virial.ratio) or _explained(abs(whole.ratio)):
        return None
    todo = "divide them by the volume" + (", and multiply by −1" if virial.correlation < 0 else "")
    return error(
        f"stresses are {abs(whole.ratio):.3g} × the model's {over}, and of the model's size per volume",
        f"these are virials, in eV: {todo}",
    )


def _sign(whole: Likeness, over: str) -> Verdict | None:
    if whole.correlation > 0:
        return None
    return error(
        f"stresses point the other way than the model's (ρ = {whole.correlation:.2f} {over})",
        "these are pressures or of the other convention: multiply them by −1 (ASE: positive under tension)",
    )


def _order(model: Float64Array, label: Float64Array, over: str) -> Verdict | None:
    """The shears fit the model's clearly better where they are taken for xy, yz, zx."""
    shear = model[:, 3:].ravel()
    as_it_is = likeness(shear, label[:, 3:].ravel()).correlation
    other = likeness(shear, label[:, OTHER_ORDER].ravel()).correlation
    if other < ALIKE or other < as_it_is + CLEARER:
        return None
    return error(
        f"the shear components fit the model's in the order xy, yz, zx (ρ = {other:.2f} against "
        f"{as_it_is:.2f} {over})",
        "write ASE's order: xx, yy, zz, yz, xz, xy",
    )


def _explained(ratio: float) -> bool:
    units = named(ratio, FACTORS)
    return bool(units) and abs(np.log(ratio / FACTORS[units[0]])) < np.log(1.15)


def _components(data: Dataset) -> dict[int, Float64Array]:
    """Frame → six components in ASE's order, where they are finite."""
    found = {}
    for number, value in enumerate(data.stress):
        if value is None or not np.isfinite(value).all() or value.size not in (6, 9):
            continue
        found[number] = full_3x3_to_voigt_6_stress(value.reshape(3, 3)) if value.size == 9 else value
    return found
