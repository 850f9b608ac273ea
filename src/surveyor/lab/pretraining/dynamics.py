"""What a potential does beyond single points: dynamics of held-out molecules, and pairs pushed together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, chemical_symbols, covalent_radii

from surveyor.lab.pretraining.geometry import thermal_velocities
from surveyor.structures import whole_file
from surveyor.types import Float64Array, Potential


@dataclass
class _Motion:
    """All molecules after so many steps: atoms one below the other, Å and ASE's unit of velocity."""

    positions: Float64Array
    velocities: Float64Array
    totals: list[Float64Array]
    """Total energies (eV) of the molecules after each step."""
    broken_at: Float64Array
    """Time (ps) at which each molecule broke; NaN where it is whole."""


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

    Velocity Verlet, all molecules in one batch. A molecule has broken when one of its first bonds grew
    beyond 1.7 times its length, or its positions are no longer finite.

    Args:
        state: a file that keeps the motion every fifty steps; the same call goes on from there, and ends with
            the result of an uninterrupted run.

    Returns:
        the number of molecules, which broke (with SMILES and time in ps), and the mean and largest drift of
        the total energy in meV/atom/ps, over those that did not break.
    """
    owner = np.repeat(np.arange(len(starts)), [len(a) for a in starts])
    sizes = np.array([len(a) for a in starts])
    offsets = np.cumsum(sizes)[:-1]
    masses = np.concatenate([atomic_masses[a.numbers] for a in starts])[:, None]
    moving = [a.copy() for a in starts]
    bonds = [_bonds(a) for a in starts]
    dt = step_fs * units.fs
    places = hashlib.sha256(np.concatenate([a.positions for a in starts]).tobytes()).hexdigest()
    key = f"{potential.fingerprint} {places} {step_fs} {seed}"
    motion = _resume(state, key) or _begin(starts, seed)

    def evaluate() -> tuple[Float64Array, Float64Array]:
        for atoms, part in zip(moving, np.split(motion.positions, offsets), strict=True):
            atoms.positions = part
        labels = potential.predict(moving)
        return np.array([x.energy for x in labels]), np.concatenate([x.forces for x in labels])

    _, forces = evaluate()
    for step in range(len(motion.totals) + 1, steps + 1):
        half = motion.velocities + 0.5 * dt * forces / masses
        motion.positions = motion.positions + dt * half
        energies, forces = evaluate()
        motion.velocities = half + 0.5 * dt * forces / masses
        kinetic = np.bincount(
            owner, weights=(0.5 * masses * motion.velocities**2).sum(axis=1), minlength=len(starts)
        )
        motion.totals.append(energies + kinetic)
        if step % 50 == 0:
            for i, atoms in enumerate(moving):
                if np.isnan(motion.broken_at[i]) and _has_broken(atoms, bonds[i]):
                    motion.broken_at[i] = step * step_fs / 1000
            if state is not None:
                _keep(state, key, motion)
            if on_step is not None:
                on_step(step, steps)
    total = np.array(motion.totals[:steps])
    tenth = max(steps // 10, 1)
    drift = (total[-tenth:].mean(axis=0) - total[:tenth].mean(axis=0)) / sizes
    drift *= 1000 / (0.9 * steps * step_fs / 1000)
    whole = np.isnan(motion.broken_at)
    return {
        "molecules": len(starts),
        "picoseconds": steps * step_fs / 1000,
        "step_fs": step_fs,
        "start_temperature_K": 600,
        "broken": [
            {"smiles": starts[i].info.get("smiles", ""), "at_ps": float(motion.broken_at[i])}
            for i in np.flatnonzero(~whole).tolist()
        ],
        "drift_mean_mev_per_atom_ps": round(float(np.abs(drift[whole]).mean()), 4) if whole.any() else None,
        "drift_max_mev_per_atom_ps": round(float(np.abs(drift[whole]).max()), 4) if whole.any() else None,
    }


def _begin(starts: Sequence[Atoms], seed: int) -> _Motion:
    rng = np.random.default_rng([seed, 6])
    return _Motion(
        np.concatenate([a.positions for a in starts]),
        np.concatenate([_resting(a, thermal_velocities(a, 600.0, rng)) for a in starts]),
        [],
        np.full(len(starts), np.nan),
    )


def _keep(state: Path, key: str, motion: _Motion) -> None:
    with whole_file(state) as file:
        np.savez(
            file,
            key=np.array(key),
            positions=motion.positions,
            velocities=motion.velocities,
            totals=np.array(motion.totals),
            broken_at=motion.broken_at,
        )


def _resume(state: Path | None, key: str) -> _Motion | None:
    """The kept motion of the same molecules under the same potential."""
    if state is None or not state.is_file():
        return None
    with np.load(state, allow_pickle=False) as kept:
        if str(kept["key"]) != key:
            return None
        return _Motion(kept["positions"], kept["velocities"], list(kept["totals"]), kept["broken_at"])


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
