"""Units and signs of labels that came from elsewhere, against a potential, before one of them is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms

from surveyor.doctor.factors import ENERGY_FACTORS, FORCE_FACTORS, named, usual
from surveyor.doctor.findings import Level
from surveyor.doctor.fits import Likeness, differences, fit_counts, likeness, odd_frames
from surveyor.doctor.sampling import predictions
from surveyor.doctor.units import unit_verdict
from surveyor.errors import LabellingError, PotentialError
from surveyor.types import Float64Array, Labels, Potential

MIN_FRAMES = 5
"""Fewer say nothing."""
MOST_ATOMS = 4_000
"""Atoms that are predicted at most, evenly from all results; seconds on one core."""
FELT = 0.5
"""eV/Å, root mean square of the potential's forces: below it, methods differ by as much as there is."""
ALIKE = 0.8
"""|ρ| from which a factor means something, of all forces and of a single frame."""
ENERGY_ALIKE = 0.9
SPARE = 8
"""Frames beyond the number of element combinations that energy differences need."""
NOTHING = 5e-3
"""Forces smaller than this share of the potential's are none."""
FEW = 3
"""Frames in another unit or of another sign, all alike, that make a mistake of a part."""

Pair = tuple[Atoms, Labels]


Compared = tuple[Atoms, Labels, Labels]
"""A structure, its labels, and the potential's predictions."""


def unit_judge(open_it: Callable[[], Potential], name: str) -> Callable[[Sequence[Pair]], str]:
    """A look at labels that refuses wrong units and signs.

    Args:
        open_it: opens the potential, only where there are enough labels.
        name: of the potential, for the messages.
    """

    def judge(pairs: Sequence[Pair]) -> str:
        if len(pairs) < MIN_FRAMES:
            return f"units and signs not checked: fewer than {MIN_FRAMES} new results"
        try:
            return check_units(pairs, open_it(), name)
        except PotentialError as error:
            return f"units and signs not checked: {error.got}"

    return judge


def check_units(pairs: Sequence[Pair], potential: Potential, name: str) -> str:
    """What comparing labels with a potential shows, in a sentence.

    Forces F are held against its F̂, and energies less the best energies per element against its own, less its
    own: ρ says whether they are alike, k by which factor they differ. Only what is alike, and differs by the
    factor of a unit or by its sign, is refused: another level of theory is neither.

    Raises:
        LabellingError: the labels are in another unit, or gradients stand for forces.
    """
    compared = _compare(pairs, potential)
    if len(compared) < MIN_FRAMES:
        return f"units and signs not checked: {name} knows fewer than {MIN_FRAMES} of the new results"
    truth = [labels.forces.ravel() for _, labels, _ in compared]
    model = [predicted.forces.ravel() for _, _, predicted in compared]
    felt, size = _size(np.concatenate(model)), _size(np.concatenate(truth))
    if felt < FELT:
        return f"units and signs not checked: the forces of {name} are too small to tell ({felt:.2g} eV/Å)"
    over = f"over {len(truth)} results"
    if size < NOTHING * felt:
        raise _refusal(f"forces are {size / felt:.2g} × those of {name} {over}: they are none", "eV/Å")
    whole = likeness(np.concatenate(model), np.concatenate(truth))
    each = [likeness(m, t) for m, t in zip(model, truth, strict=True) if _size(m) > FELT]
    if whole.correlation < -ALIKE and np.median([one.correlation for one in each]) < -ALIKE:
        _refuse_sign(whole, name, over)
    if whole.correlation > ALIKE:
        _refuse_factor("forces", whole, FORCE_FACTORS, "eV/Å", name, over)
    _refuse_part(each, name)
    energies = _check_energies(compared, name)
    if whole.correlation > ALIKE and usual(whole.ratio):
        return (
            f"forces are {whole.ratio:.2f} × those of {name} (ρ = {whole.correlation:.2f} {over}); {energies}"
        )
    return (
        f"units and signs not decided: forces follow those of {name} too little "
        f"(ρ = {whole.correlation:.2f}, factor {whole.ratio:.2g}, {over}); {energies}"
    )


def _compare(pairs: Sequence[Pair], potential: Potential) -> list[Compared]:
    known = set(potential.elements)
    usable = [
        pair
        for pair in pairs
        if known.issuperset(pair[0].numbers.tolist()) and len(pair[0]) <= MOST_ATOMS // MIN_FRAMES
    ]
    total = sum(len(atoms) for atoms, _ in usable)
    step = max(1, -(-total // MOST_ATOMS))
    chosen = usable[::step]
    found = predictions(potential, [atoms for atoms, _ in chosen])
    return [(*chosen[position], predicted) for position, predicted in found if predicted is not None]


def _size(values: Float64Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _refuse_sign(whole: Likeness, name: str, over: str) -> None:
    """Gradients, where their size is that of forces in eV/Å or in another unit."""
    units = [] if usual(whole.ratio) else named(abs(whole.ratio), FORCE_FACTORS)
    if usual(whole.ratio) or units:
        unit = f", in {' or '.join(units)}" if units else ""
        raise _refusal(
            f"forces point the other way than those of {name} (ρ = {whole.correlation:.2f} {over}): "
            f"gradients taken for forces{unit}",
            "forces, which are minus the gradient, in eV/Å",
        )


def _refuse_factor(
    what: str, whole: Likeness, factors: dict[str, float], wanted: str, name: str, over: str
) -> None:
    if usual(whole.ratio):
        return
    verdict = unit_verdict(what, whole, factors, wanted, over, f"those of {name}")
    if verdict.level is Level.ERROR:
        raise _refusal(verdict.found, f"{what} in {wanted}")


def _refuse_part(each: Sequence[Likeness], name: str) -> None:
    odd = odd_frames(each, FEW)
    if odd is None:
        return
    frames, factor, units = odd
    how = f"are {factor:.3g} × those of {name}: {' or '.join(units)} taken for eV/Å"
    if factor < 0:
        how = f"point the other way than those of {name}: gradients taken for forces"
    raise _refusal(
        f"forces of {len(frames)} of {len(each)} results {how}", "forces in eV/Å, of one unit and sign"
    )


def _check_energies(compared: Sequence[Compared], name: str) -> str:
    structures = [atoms for atoms, _, _ in compared]
    labels, predicted = np.array([[label.energy, model.energy] for _, label, model in compared]).T
    fit = fit_counts(structures, labels)
    if len(structures) < fit.rank + SPARE:
        return "energies not checked, there are too few of the same composition"
    whole = likeness(differences(structures, predicted), labels - fit.fitted)
    over = f"over {len(structures)} results"
    if whole.correlation < -ENERGY_ALIKE and usual(whole.ratio):
        raise _refusal(
            f"energies fall where those of {name} rise (ρ = {whole.correlation:.2f} {over})", "energies in eV"
        )
    if whole.correlation > ENERGY_ALIKE:
        per_atom = {"eV/atom": 1 / float(np.median([len(atoms) for atoms in structures]))}
        _refuse_factor("energy differences", whole, {**ENERGY_FACTORS, **per_atom}, "eV", name, over)
        return f"energy differences are {whole.ratio:.2f} × its (ρ = {whole.correlation:.2f})"
    return f"energy differences follow its too little to tell (ρ = {whole.correlation:.2f})"


def _refusal(got: str, expected: str) -> LabellingError:
    return LabellingError(
        got,
        expected=expected,
        todo="nothing was taken; convert the results, or take them as they are with --trust-units",
    )
