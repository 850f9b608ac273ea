"""What a potential does beyond single points: dynamics of held-out molecules, and pairs pushed together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols, covalent_radii
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet

from surveyor.lab.pretraining.geometry import thermal_velocities
from surveyor.structures import whole_file
from surveyor.types import Float64Array, Potential


class _Together(Calculator):  # type: ignore[misc]
    """One potential for molecules that do not feel each other: all of them in one batch."""

    implemented_properties = ("energy", "forces")

    def __init__(self, potential: Potential, molecules: Sequence[Atoms]) -> None:
        super().__init__()
        self.potential = potential
        self.molecules = [atoms.copy() for atoms in molecules]
        self.each: Float64Array = np.zeros(len(molecules))
        """Energies (eV) of the molecules where they are now."""

    def calculate(self, atoms: Atoms, *asked: Any) -> None:
        """Energies and forces of all molecules at the positions of `atoms`."""
        super().calculate(atoms, *asked)
        offsets = np.cumsum([len(molecule) for molecule in self.molecules])[:-1]
        for molecule, part in zip(self.molecules, np.split(atoms.positions, offsets), strict=True):
            molecule.positions = part
        labels = self.potential.predict(self.molecules)
        self.each = np.array([one.energy for one in labels])
        forces = np.concatenate([one.forces for one in labels])
        self.results = {"energy": float(self.each.sum()), "forces": forces}


def run_dynamics(
    potential: Potential,
    starts: Sequence[Atoms],
    *,
    steps: int,
    step_fs: float,
    seed: int,
    state: Path | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Constant-energy dynamics of all molecules, from relaxed structures at 600 K (300 K on average).

    ASE's velocity Verlet, all molecules in one batch. A molecule has broken when one of its first bonds grew
    beyond 1.7 times its length, or its positions are no longer finite.

    Args:
        state: a file that keeps the motion every fifty steps; the same call goes on from there, and ends with
            the result of an uninterrupted run.

    Returns:
        the number of molecules, which broke (with SMILES and time in ps), and the mean and largest drift of
        the total energy in meV/atom/ps, over those that did not break.
    """
    bonds = [_bonds(molecule) for molecule in starts]
    owner = np.repeat(np.arange(len(starts)), [len(molecule) for molecule in starts])
    atoms, totals, broken_at = _begin(starts, seed)
    places = hashlib.sha256(atoms.positions.tobytes()).hexdigest()
    key = f"{potential.fingerprint} {places} {step_fs} {seed}"
    if (kept := _kept(state, key)) is not None:
        atoms.positions, totals, broken_at = kept["positions"], list(kept["totals"]), kept["broken_at"]
        atoms.set_momenta(kept["momenta"])
    atoms.calc = together = _Together(potential, starts)
    dynamics = VelocityVerlet(atoms, timestep=step_fs * units.fs)
    dynamics.nsteps = len(totals)

    def observe() -> None:
        if (step := dynamics.nsteps) == len(totals):
            return  # ASE observes where a run begins, too
        kinetic = (atoms.get_momenta() ** 2).sum(axis=1) / (2 * atoms.get_masses())
        totals.append(together.each + np.bincount(owner, weights=kinetic, minlength=len(starts)))
        if step % 50 == 0:
            for i, molecule in enumerate(together.molecules):
                if np.isnan(broken_at[i]) and _has_broken(molecule, bonds[i]):
                    broken_at[i] = step * step_fs / 1000
            if state is not None:
                motion = {"positions": atoms.positions, "momenta": atoms.get_momenta()}
                with whole_file(state) as file:
                    np.savez(file, key=np.array(key), totals=np.array(totals), broken_at=broken_at, **motion)
            if on_step is not None:
                on_step(step, steps)

    dynamics.attach(observe)
    dynamics.run(max(steps - len(totals), 0))
    total = np.array(totals[:steps])
    tenth = max(steps // 10, 1)
    drift = (total[-tenth:].mean(axis=0) - total[:tenth].mean(axis=0)) / np.bincount(owner)
    drift *= 1000 / (0.9 * steps * step_fs / 1000)
    whole = np.isnan(broken_at)
    return {
        "molecules": len(starts),
        "picoseconds": steps * step_fs / 1000,
        "step_fs": step_fs,
        "start_temperature_K": 600,
        "broken": [
            {"smiles": starts[i].info.get("smiles", ""), "at_ps": float(broken_at[i])}
            for i in np.flatnonzero(~whole).tolist()
        ],
        "drift_mean_mev_per_atom_ps": round(float(np.abs(drift[whole]).mean()), 4) if whole.any() else None,
        "drift_max_mev_per_atom_ps": round(float(np.abs(drift[whole]).max()), 4) if whole.any() else None,
    }


def _begin(starts: Sequence[Atoms], seed: int) -> tuple[Atoms, list[Float64Array], Float64Array]:
    """All atoms at their first places with thermal momenta, each molecule at rest as a whole."""
    rng = np.random.default_rng([seed, 6])
    together = Atoms()
    for molecule in starts:
        own = Atoms(molecule.numbers, positions=molecule.positions)
        own.set_velocities(thermal_velocities(own, 600.0, rng))
        Stationary(own, preserve_temperature=False)
        together += own
    return together, [], np.full(len(starts), np.nan)


def _kept(state: Path | None, key: str) -> dict[str, Any] | None:
    """The kept motion of the same molecules under the same potential; None of other ones."""
    if state is None or not state.is_file():
        return None
    with np.load(state, allow_pickle=False) as kept:
        return dict(kept) if str(kept["key"]) == key and "momenta" in kept else None


def _bonds(atoms: Atoms) -> list[tuple[int, int, float]]:
    distances = atoms.get_all_distances()
    radii = covalent_radii[atoms.numbers]
    limit = 1.3 * (radii[:, None] + radii[None, :])
    return [
        (i, j, distances[i, j]) for i in range(len(atoms)) for j in range(i) if distances[i, j] < limit[i, j]
    ]


def _has_broken(atoms: Atoms, bonds: Sequence[tuple[int, int, float]]) -> bool:
    if not np.isfinite(atoms.positions).all():
        return True
    distances = atoms.get_all_distances()
    return any(distances[i, j] > 1.7 * length for i, j, length in bonds)


def scan_pairs(potential: Potential, numbers: Sequence[int], shortest: float = 0.5) -> dict[str, Any]:
    """Every pair of elements alone, pushed together to `shortest` Å.

    Below 0.7 of the sum of covalent radii (N₂ and C₂ are at 0.8) the energy must rise with each step inwards.

    Returns:
        by pair: whether it did, the length (Å) from which inwards the energy always rises, and the energy
        (eV) at `shortest` above the isolated atoms.
    """
    result: dict[str, Any] = {}
    for a, b in combinations_with_replacement(sorted(numbers), 2):
        contact = float(covalent_radii[a] + covalent_radii[b])
        lengths = np.arange(shortest, max(1.5 * contact, 1.2), 0.02)
        frames = [Atoms([a, b], positions=[[0, 0, 0], [0, 0, r]]) for r in lengths]
        atoms = [Atoms([n], positions=[[0, 0, 0]]) for n in (a, b)]
        alone = sum(labels.energy for labels in potential.predict(atoms))
        energies = np.array([x.energy for x in potential.predict(frames)]) - alone
        falling = np.diff(energies) < 0
        rises_from = lengths[len(falling) if falling.all() else int(np.argmin(falling))]
        result[f"{chemical_symbols[a]}-{chemical_symbols[b]}"] = {
            "repulsive": bool(np.isfinite(energies).all() and rises_from >= 0.7 * contact - 1e-9),
            "rises_below": round(float(rises_from), 2),
            "energy_at_shortest": round(float(energies[0]), 2),
        }
    return result
