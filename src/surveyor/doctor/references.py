"""Checks of energies against the potential's, after per-element references are fitted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from surveyor.doctor.findings import Verdict, error, frames_text, not_checked, ok, warning
from surveyor.doctor.fits import fit_counts
from surveyor.doctor.sampling import Sample
from surveyor.regression import spread
from surveyor.structures.composition import elements_of
from surveyor.types import Float64Array, IndexArray

MIN_FRAMES = 20
WIDE = 0.5
"""eV/atom; labels and predictions that differ by more than this have little in common."""
FAR = 10.0
"""Outliers: at least this many spreads from the middle, …"""
APART = 2.0
"""… this many times further than the furthest of the others, …"""
SMALLEST = 0.1
"""… and this far, eV/atom."""
MIN_GROUP = 3
GAP = 1.0
"""eV; two groups of energies are at least this far apart, …"""
CLEAR = 3.0
"""… and this many times the distance that holds the middle 90 % of the wider group."""


def _enough(sample: Sample) -> bool:
    return len(sample) >= max(MIN_FRAMES, 5 * len(elements_of(sample.structures)))


def references(sample: Sample) -> Verdict:
    """δ = argmin Σ_x |E − Ê − Σ_z n_z δ_z| / n; spread of what it leaves below 0.5 eV/atom."""
    if not len(sample):
        return not_checked("no labelled frames that the model knows")
    structures = [atoms for atoms, drawn in zip(sample.structures, sample.drawn, strict=True) if drawn]
    fit = fit_counts(structures, (sample.energy - sample.predicted)[sample.drawn])
    shifts = ", ".join(f"{chemical_symbols[z]} {shift:+.2f}" for z, shift in sorted(fit.shifts.items()))
    left = spread((sample.residual / sample.sizes)[sample.drawn])
    found = f"shift of the model's atomic energies {shifts} eV; spread {1e3 * left:.0f} meV/atom"
    if fit.rank < len(fit.shifts):
        found += f" (only {fit.rank} combination{'s' if fit.rank > 1 else ''} told apart)"
    if _enough(sample) and left > WIDE:
        return warning(
            found, "labels and model differ by more than references explain: see units, charges and frames"
        )
    return ok(found)


def outliers(sample: Sample) -> Verdict:
    """|r − median r| > 10 spreads, > 0.1 eV/atom and > 2 × the next smaller one; r = residual / n.

    At most 5 % of the frames; a long tail without a gap is the model's own error.
    """
    if not _enough(sample):
        return not_checked(f"fewer than {MIN_FRAMES} labelled frames that the model knows")
    r = sample.residual / sample.sizes
    away = np.abs(r - np.median(r))
    order = np.argsort(away)
    bulk = spread(r[sample.drawn])
    for position in range(int(0.95 * len(order)), len(order)):
        here, before = away[order[position]], away[order[position - 1]]
        if here > max(FAR * bulk, SMALLEST, APART * before):
            far = np.sort(order[position:])
            return warning(
                f"energies of {frames_text(sample.index[far])} are up to {away[far].max():.2f} eV/atom from "
                f"where the others put them ({away[far].max() / bulk:.0f} spreads)",
                "look at these calculations: unconverged, another state, or a typing error",
            )
    return ok(f"none in {len(sample)} frames; the furthest at {away.max() / max(bulk, 1e-12):.0f} spreads")


@dataclass(frozen=True)
class Groups:
    """One composition whose energies fall into two groups."""

    formula: str
    gap: float
    low: IndexArray
    high: IndexArray


def two_groups(sample: Sample) -> Verdict:
    """Residuals E − Ê of one composition do not split by a gap > 1 eV and > 3 × the width of the groups."""
    if len(sample) < MIN_FRAMES:
        return not_checked(f"fewer than {MIN_FRAMES} labelled frames that the model knows")
    found = list(_split(sample))
    if not found:
        return ok("the energies of every composition form one group")
    worst = max(found, key=lambda groups: min(len(groups.low), len(groups.high)))
    smaller = min(worst.low, worst.high, key=len)
    return error(
        f"energies of {worst.formula} fall into two groups {worst.gap:.2f} eV apart: {len(worst.low)} and "
        f"{len(worst.high)} frames (the smaller: {frames_text(sample.index[smaller])})"
        + (f"; {len(found) - 1} more compositions" if len(found) > 1 else ""),
        "two levels of theory in one file, or ions and excited states without total_charge and total_spin: "
        "separate them, or state charge and spin",
    )


def _split(sample: Sample) -> Iterator[Groups]:
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for position, number in enumerate(sample.index):
        places[sample.data.composition[number]].append(position)
    difference = sample.energy - sample.predicted
    for composition, positions in places.items():
        members = np.array(positions, dtype=np.intp)
        cut = gap_in(difference[members])
        if cut is not None:
            order = members[np.argsort(difference[members], kind="stable")]
            values = np.sort(difference[members])
            yield Groups(
                composition[0],
                float(values[cut] - values[cut - 1]),
                np.sort(order[:cut]),
                np.sort(order[cut:]),
            )


def gap_in(values: Float64Array) -> int | None:
    """Number of values below the widest gap, if the gap parts them into two clear groups."""
    least = max(MIN_GROUP, int(0.05 * len(values)))
    if len(values) < 4 * MIN_GROUP:
        return None
    ordered = np.sort(values)
    gaps = np.diff(ordered)
    inner = gaps[least - 1 : len(gaps) - least + 1]
    cut = int(np.argmax(inner)) + least
    width = max(float(np.ptp(np.percentile(part, [5, 95]))) for part in (ordered[:cut], ordered[cut:]))
    return cut if gaps[cut - 1] > max(GAP, CLEAR * width) else None
