"""Checks of units and signs: labels against the predictions of a potential."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from surveyor.doctor.factors import ENERGY_FACTORS, FORCE_FACTORS, named, usual
from surveyor.doctor.findings import Verdict, error, frames_text, not_checked, ok, warning
from surveyor.doctor.fits import Likeness, differences, likeness, odd_frames
from surveyor.doctor.sampling import Sample

MIN_FRAMES = 5
ALIKE = 0.5
"""ρ from which a factor between labels and predictions means something."""
UNLIKE = 0.3
"""ρ below which forces of equal size have nothing to do with each other."""
FEW = 0.02
"""Share of frames in another unit from which a file counts as mixed."""


def force_unit(sample: Sample) -> Verdict:
    """k = Σ F² / Σ F F̂ within [1/3, 3], where ρ(F, F̂) > 0.5; ρ not below −0.5 (gradients for forces).

    Where half of the frames have ρ > 0.8, the same frame by frame finds a part in another unit or of another
    sign: ρ < −0.8, or a common factor beyond 8.
    """
    if sample.drawn.sum() < MIN_FRAMES:
        return not_checked(f"fewer than {MIN_FRAMES} labelled frames that the model knows")
    pairs = [
        (prediction.ravel(), label.ravel())
        for prediction, label, drawn in zip(sample.predicted_forces, sample.forces, sample.drawn, strict=True)
        if drawn
    ]
    predicted, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    whole = likeness(predicted, labels)
    over = f"over {len(pairs)} frames"
    if whole.correlation < -ALIKE:
        return error(
            f"forces point the other way than the model's (ρ = {whole.correlation:.2f} {over})",
            "these are gradients: multiply them by −1",
        )
    if whole.correlation > ALIKE and not usual(whole.ratio):
        return unit_verdict("forces", whole, FORCE_FACTORS, "eV/Å", over)
    each = [
        likeness(prediction.ravel(), label.ravel())
        for prediction, label in zip(sample.predicted_forces, sample.forces, strict=True)
    ]
    if odd := odd_frames(each, max(MIN_FRAMES, FEW * len(each))):
        frames, factor, units = odd
        what = f"{factor:.3g} × the model's, as in {' or '.join(units)}"
        if factor < 0:
            what = "gradients: they point the other way than the model's"
        return error(
            f"forces of {len(frames)} of {len(sample)} frames are {what} "
            f"({frames_text(sample.index[frames])})",
            "the file mixes units or signs: bring all frames to forces (not gradients) in eV/Å",
        )
    if whole.correlation > ALIKE:
        return ok(f"{whole.ratio:.2f} × the model's, ρ = {whole.correlation:.2f} {over}")
    if abs(whole.correlation) < UNLIKE and np.median(np.abs(labels)) > 0.5 * np.median(np.abs(predicted)):
        return warning(
            f"forces have nothing to do with the model's (ρ = {whole.correlation:.2f} {over})",
            "forces of other frames, in another order of atoms, or a model that does not know this chemistry",
        )
    return not_checked(f"the model's forces follow the labels too little (ρ = {whole.correlation:.2f})")


def energy_unit(sample: Sample) -> Verdict:
    """k = Σ a² / Σ ab within [1/3, 3] where ρ(a, b) > 0.5: a, b are E, Ê less per-element references."""
    if sample.drawn.sum() < MIN_FRAMES:
        return not_checked(f"fewer than {MIN_FRAMES} labelled frames that the model knows")
    structures = [atoms for atoms, drawn in zip(sample.structures, sample.drawn, strict=True) if drawn]
    labels, predicted = (
        differences(structures, energies[sample.drawn]) for energies in (sample.energy, sample.predicted)
    )
    whole = likeness(predicted, labels)
    over = f"over {int(sample.drawn.sum())} frames"
    if whole.correlation > ALIKE and not usual(whole.ratio):
        per_atom = {"eV/atom": 1 / float(np.median(sample.sizes[sample.drawn]))}
        return unit_verdict("energy differences", whole, {**ENERGY_FACTORS, **per_atom}, "eV", over)
    if whole.correlation > ALIKE:
        return ok(f"differences {whole.ratio:.2f} × the model's, ρ = {whole.correlation:.2f} {over}")
    if whole.correlation < -ALIKE:
        return warning(
            f"energies fall where the model's rise (ρ = {whole.correlation:.2f} {over})",
            "energies of other frames, or of the wrong sign?",
        )
    return not_checked(f"the model's energies follow the labels too little (ρ = {whole.correlation:.2f})")


def unit_verdict(
    what: str,
    found: Likeness,
    factors: Mapping[str, float],
    wanted: str,
    over: str,
    model: str = "the model's",
) -> Verdict:
    """Which unit a factor betrays that is none of a potential's own error."""
    units = named(found.ratio, factors)
    text = f"{what} are {found.ratio:.3g} × {model} (ρ = {found.correlation:.2f} {over})"
    if not units:
        return warning(f"{text}: no usual unit explains that", f"check the unit: {wanted} is expected")
    near = abs(np.log(found.ratio / factors[units[0]]))
    confidence = "high" if found.correlation > 0.8 and near < np.log(1.3) else "moderate"
    return error(
        f"{text}: {' or '.join(units)} taken for {wanted}; confidence {confidence}",
        f"divide by {factors[units[0]]:.6g} if they are in {units[0]}",
    )
