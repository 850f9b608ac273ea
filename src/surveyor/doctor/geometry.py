"""Checks of geometries, cells, charge and spin."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from surveyor.doctor.dataset import Dataset
from surveyor.doctor.findings import Verdict, error, frames_text, ok, warning
from surveyor.errors import StructureError
from surveyor.structures.identity import stated_charge, stated_spin
from surveyor.structures.neighbours import nearest_distances
from surveyor.structures.validation import OVERLAP, check_cell

LOST = 10.0
"""Å; an atom that is further than this from all others belongs to nothing."""
BOHR = (1.7, 2.1)
"""Quartiles of nearest distance / sum of covalent radii that only 1.89 Bohr/Å explains."""
NOBLE = [atomic_numbers[symbol] for symbol in ("He", "Ne", "Ar", "Kr", "Xe", "Rn")]


def cell(data: Dataset) -> Verdict:
    """Every periodic direction has a cell vector of its own, |a_k| > 0.3 Å, of finite components.

    Along open directions there need be none.
    """
    bad = [number for number, atoms in enumerate(data.structures) if _lacks_cell(atoms)]
    if bad:
        return error(
            f"periodic without a cell vector of its own, or a cell of NaN: {frames_text(bad)}",
            'write Lattice="…" with the frames, or pbc="F F F" for molecules',
        )
    periodic = sum(bool(atoms.pbc.any()) for atoms in data.structures)
    return ok(f"{periodic} of {len(data)} frames periodic" if periodic else "no frame periodic")


def _lacks_cell(atoms: Atoms) -> bool:
    try:
        check_cell(atoms)
    except StructureError:
        return True
    return False


def geometry(data: Dataset) -> Verdict:
    """Finite positions; every r_ij > 0.3 Å; min_j r_ij < 10 Å; median of min_j r_ij / (R_i + R_j) not 1.89.

    The last says that positions are in Bohr: R are covalent radii, noble gases do not count.
    """
    elsewhere = [
        n for n in data.faults if _lacks_cell(data.structures[n]) or not has_state(data.structures[n])
    ]
    faults = {n: text for n, text in data.faults.items() if n not in elsewhere}
    if faults:
        first = next(iter(faults))
        return error(
            f"{len(faults)} of {len(data)} frames cannot be computed: {faults[first]}"
            + (f" (all: {frames_text(list(faults))})" if len(faults) > 1 else ""),
            "take these frames out; check the length unit (Å, not nm or Bohr)",
        )
    lost, ratios = [], []
    for number, atoms in enumerate(data.structures):
        if len(atoms) < 2 or atoms.pbc.any() or not data.sound[number]:
            continue
        shortest, nearest = nearest_distances(atoms.positions)
        if (shortest > LOST).any():
            lost.append(number)
        radii = covalent_radii[atoms.numbers]
        bonded = ~np.isin(atoms.numbers, NOBLE)
        ratios.append((shortest / (radii + radii[nearest]))[bonded])
    ratio = np.concatenate([*ratios, np.zeros(0)])
    low, middle, high = np.percentile(ratio, [25, 50, 75]) if len(ratio) else (0.0, 0.0, 0.0)
    if BOHR[0] < low and high < BOHR[1]:
        return error(
            f"nearest neighbours stand {middle:.2f} × the sum of covalent radii apart: 1.89 is Bohr for Å",
            "multiply positions (and cell) by 0.529177",
        )
    if lost:
        return warning(
            f"an atom more than {LOST:g} Å from all others in {len(lost)} of {len(data)} frames "
            f"({frames_text(lost)})",
            "exploded trajectory? cut it before the explosion, or take the frames out",
        )
    if not len(ratio):
        return ok(f"positions finite, no two atoms closer than {OVERLAP:g} Å")
    return ok(f"nearest neighbours at {middle:.2f} × the sum of covalent radii (median)")


def has_state(atoms: Atoms) -> bool:
    """Whether charge and spin are whole numbers; `charge_and_spin` says so where they are not."""
    try:
        stated_charge(atoms), stated_spin(atoms)
    except StructureError:
        return False
    return True


def charge_and_spin(data: Dataset) -> Verdict:
    """(Σ Z − q + 2S) even and 2S ≤ Σ Z − q, for multiplicity 2S+1 ≥ 1 and whole q, in every frame by itself.

    Periodic cells may break the parity.
    """
    senseless: list[int] = []
    impossible: dict[str, list[int]] = {}
    unstated: list[int] = []
    silent: list[int] = []
    charges: set[int] = set()
    for number, atoms in enumerate(data.structures):
        if not has_state(atoms):
            senseless.append(number)
            continue
        stated, spin = stated_charge(atoms), stated_spin(atoms)
        charge, multiplicity = stated or 0, spin or 1
        charges.add(charge)
        if stated is None:
            silent.append(number)
        electrons = int(atoms.numbers.sum()) - charge
        parity = atoms.pbc.any() or (electrons + multiplicity - 1) % 2 == 0
        if parity and multiplicity - 1 <= max(electrons, 0):
            continue
        if spin is not None:
            impossible.setdefault(f"multiplicity {spin} with {electrons} electrons", []).append(number)
        else:
            unstated.append(number)
    if senseless:
        return error(
            f"charge or spin that cannot be: {frames_text(senseless)}",
            "total_charge is a whole number of e; total_spin is the multiplicity 2S+1 (1, 2, 3, …)",
        )
    odd = f"an odd number of electrons and no total_spin in {len(unstated)} of {len(data)} frames "
    odd += f"({frames_text(unstated)}): they count as singlets" if unstated else ""
    if impossible:
        found = [f"{what} cannot be: {frames_text(frames)}" for what, frames in impossible.items()]
        return error(
            "; ".join([*found, *([odd] if unstated else [])]),
            "2S+1 is odd for an even number of electrons, and even for an odd one: correct total_spin or "
            "total_charge",
        )
    mixed = 0 < len(silent) < len(data)
    if mixed or unstated:
        few = f"{len(data) - len(silent)} frames state a charge, {len(silent)} do not "
        few += f"({frames_text(silent)}): these count as neutral" if silent else ""
        return warning(
            "; ".join([*([few] if mixed else []), *([odd] if unstated else [])]),
            "write total_charge with every frame"
            + (", and total_spin=2 (or what was computed) with those of an odd number" if unstated else ""),
        )
    return ok("total charge " + ", ".join(f"{charge:+d}" if charge else "0" for charge in sorted(charges)))
