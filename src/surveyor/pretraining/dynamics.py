"""What a potential does beyond single points: dynamics of held-out molecules, and pairs pushed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, chemical_symbols, covalent_radii

from surveyor.pretraining.geometry import thermal_velocities
from surveyor.types import Float64Array, Potential


def run_dynamics(
    potential: Potential,
    starts: Sequence[Atoms],
    *,
    steps: int,
    step_fs: float,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Constant-energy dynamics of all molecules, from relaxed structures at 600 K (300 K on average).

    Velocity Verlet, all molecules in one batch. A molecule has broken when one of its first bonds grew
    beyond 1.7 times its length, or its positions are no longer finite.

    Returns:
        the number of molecules, which broke (with SMILES and time in ps), and the mean and largest drift of
        the total energy in meV/atom/ps, over those that did not break.
    """
    rng = np.random.default_rng([seed, 6])
    owner = np.repeat(np.arange(len(starts)), [len(a) for a in starts])
    sizes = np.array([len(a) for a in starts])
    masses = np.concatenate([atomic_masses[a.numbers] for a in starts])[:, None]
    moving = [a.copy() for a in starts]
    velocities = np.concatenate([_resting(a, thermal_velocities(a, 600.0, rng)) for a in moving])
    bonds = [_bonds(a) for a in starts]
    dt = step_fs * units.fs

    def evaluate() -> tuple[Float64Array, Float64Array]:
        labels = potential.predict(moving)
        return np.array([x.energy for x in labels]), np.concatenate([x.forces for x in labels])

    energies, forces = evaluate()
    totals, broken = [], {}
    offsets = np.cumsum(sizes)[:-1]
    for step in range(1, steps + 1):
        velocities = velocities + 0.5 * dt * forces / masses
        for atoms, part in zip(moving, np.split(velocities, offsets), strict=True):
            atoms.positions += dt * part
        energies, forces = evaluate()
        velocities = velocities + 0.5 * dt * forces / masses
        kinetic = np.bincount(
            owner, weights=(0.5 * masses * velocities**2).sum(axis=1), minlength=len(starts)
        )
        totals.append(energies + kinetic)
        if step % 50 == 0:
            for i, atoms in enumerate(moving):
                if i not in broken and _has_broken(atoms, bonds[i]):
                    broken[i] = step * step_fs / 1000
            if on_step is not None:
                on_step(step, steps)
    total = np.array(totals)
    tenth = max(steps // 10, 1)
    drift = (total[-tenth:].mean(axis=0) - total[:tenth].mean(axis=0)) / sizes
    drift *= 1000 / (0.9 * steps * step_fs / 1000)
    whole = [i for i in range(len(starts)) if i not in broken]
    return {
        "molecules": len(starts),
        "picoseconds": steps * step_fs / 1000,
        "step_fs": step_fs,
        "start_temperature_K": 600,
        "broken": [{"smiles": starts[i].info.get("smiles", ""), "at_ps": at} for i, at in broken.items()],
        "drift_mean_mev_per_atom_ps": round(float(np.abs(drift[whole]).mean()), 4) if whole else None,
        "drift_max_mev_per_atom_ps": round(float(np.abs(drift[whole]).max()), 4) if whole else None,
    }


def _resting(atoms: Atoms, velocities: Float64Array) -> Float64Array:
    """Velocities without the motion of the centre of mass."""
    masses = atomic_masses[atoms.numbers][:, None]
    return np.asarray(velocities - (masses * velocities).sum(axis=0) / masses.sum())


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
