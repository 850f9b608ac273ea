"""Checks that need no model: forces against energies, net force and torque."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surveyor.doctor.dataset import Dataset
from surveyor.doctor.factors import factor_text
from surveyor.doctor.findings import Verdict, error, frames_text, not_checked, ok, warning
from surveyor.labelling.rigid import net_and_total, torques
from surveyor.types import Float64Array, IndexArray

STEP = (1e-4, 0.15)
"""Å; the largest displacement of an atom between neighbouring frames that the trapezoid rule bears."""
SMALLEST_CHANGE = 0.01
"""eV; smaller energy changes drown in the digits of the file."""
MIN_PAIRS = 8
MISFIT = 0.25
"""Median misfit; 0 for exact gradients, (k − 1)/(k + 1) for forces off by a factor k, 1 for a wrong sign."""
NET = 0.1
"""|Σ F| / Σ |F|; rounding, DFT grids and loose convergence stay below."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Neighbouring frames: change of the energy, and work of the mean force.

    | variable | shape | meaning                                    | unit |
    |----------|-------|--------------------------------------------|------|
    | change   | (m,)  | ΔE = E_{i+1} − E_i                         | eV   |
    | work     | (m,)  | −½ (F_i + F_{i+1})·(x_{i+1} − x_i)         | eV   |
    | first    | (m,)  | i                                          |      |
    """

    change: Float64Array
    work: Float64Array
    first: IndexArray


def steps(data: Dataset) -> Steps:
    """Pairs of consecutive labelled frames whose atoms moved by 1e-4 to 0.15 Å."""
    change, work, first = [], [], []
    for i in range(len(data) - 1):
        if not (data.labelled[i] and data.labelled[i + 1]):
            continue
        if data.composition[i] != data.composition[i + 1]:
            continue
        a, b = data.structures[i], data.structures[i + 1]
        if not np.array_equal(a.numbers, b.numbers) or not np.allclose(a.cell.array, b.cell.array):
            continue
        moved = b.positions - a.positions
        if not STEP[0] < np.linalg.norm(moved, axis=1).max() < STEP[1]:
            continue
        before, after = data.forces[i], data.forces[i + 1]
        if before is None or after is None:
            continue
        change.append(data.energy[i + 1] - data.energy[i])
        work.append(-0.5 * float(((before + after) * moved).sum()))
        first.append(i)
    return Steps(np.array(change), np.array(work), np.array(first, dtype=np.intp))


def gradient(data: Dataset) -> Verdict:
    """Median of |ΔE − W| / (|ΔE| + |W|) over neighbouring frames < 0.25; W = −½(F_i + F_{i+1})·Δx."""
    found = steps(data)
    scale = np.maximum(np.abs(found.change), np.abs(found.work))
    told = scale > SMALLEST_CHANGE
    if told.sum() < MIN_PAIRS:
        return not_checked("no neighbouring frames (consecutive, atoms moved by less than 0.15 Å)")
    change, work = found.change[told], found.work[told]
    misfit = np.abs(change - work) / (np.abs(change) + np.abs(work))
    middle = float(np.median(misfit))
    if middle < MISFIT:
        return ok(f"median misfit {middle:.3f} over {int(told.sum())} pairs of neighbouring frames")
    # Which factor mends it: the ratio of sizes, with the sign that most pairs have.
    sign = float(np.sign(np.sum(np.sign(change) * np.sign(work))))
    ratio = float(np.median(np.abs(change)) / max(float(np.median(np.abs(work))), 1e-300))
    mended = np.abs(change - sign * ratio * work) / (np.abs(change) + np.abs(ratio * work))
    if sign < 0 and np.median(mended) < MISFIT:
        return error(
            f"forces are the gradient with the wrong sign: misfit {middle:.2f} over {int(told.sum())} pairs",
            "multiply the forces by −1" + ("" if 0.5 < ratio < 2 else f"; then {factor_text(ratio)}"),
        )
    if np.median(mended) < MISFIT:
        return error(
            f"energy changes are {ratio:.3g} × the work of the forces over {int(told.sum())} pairs",
            f"energies and forces are in different units: {factor_text(ratio)}",
        )
    return error(
        f"forces are not the gradient of the energies: misfit {middle:.2f} over {int(told.sum())} pairs "
        f"(first: {frames_text(found.first[told][:1])})",
        "check that energies and forces belong to the same frames, states and level of theory",
    )


def net_force(data: Dataset) -> Verdict:
    """|Σ F| / Σ |F| and |Σ (r − r̄) × F| / Σ |r − r̄||F| below 0.1 on molecules; 5 % of the frames may differ.

    Frames with small forces (Σ |F| below a tenth of the median) do not count.
    """
    found = []
    for number in np.flatnonzero(data.labelled).tolist():
        atoms, forces = data.structures[number], data.forces[number]
        if atoms.pbc.any() or len(atoms) < 2 or forces is None:
            continue
        arms = np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0), axis=1)
        lever = float((arms * np.linalg.norm(forces, axis=1)).sum())
        drift, total = net_and_total(forces)
        twist, _ = net_and_total(torques(atoms.positions, forces))
        found.append((number, drift, twist / max(lever, 1e-300), total))
    if not found:
        return not_checked("no labelled molecules")
    numbers, net, torque, sizes = np.array(found).T
    told = (sizes > 0.1 * np.median(sizes)) & (sizes > 0)
    if not told.any():
        return not_checked("all forces are zero")
    drift, twist = net[told] / sizes[told], torque[told]
    which = numbers[told].astype(np.intp)
    if (drift > NET).mean() > 0.05:
        return warning(
            f"forces of {int((drift > NET).sum())} of {len(drift)} molecules do not sum to zero "
            f"(up to {drift.max():.0%} of Σ|F|; {frames_text(which[drift > NET])})",
            "look for fixed atoms, an external field, missing atoms or unconverged calculations",
        )
    if (twist > NET).mean() > 0.05:
        return warning(
            f"forces of {int((twist > NET).sum())} of {len(twist)} molecules exert a torque "
            f"(up to {twist.max():.0%}; {frames_text(which[twist > NET])})",
            "forces of another frame, in another order of atoms, or in a rotated frame of reference?",
        )
    return ok(f"largest |Σ F| / Σ |F| {drift.max():.2g}, torque {twist.max():.2g}")
