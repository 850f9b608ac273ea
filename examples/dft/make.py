"""Make the geometries of the DFT example: hydrogen goes round CN, from HCN to HNC.

    python examples/dft/make.py

writes pool.extxyz and targets.extxyz, which have no labels, and start-geometries.extxyz and
test-geometries.extxyz beside this script. Labels of the last two come from `surveyor label`; see README.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from scipy.optimize import minimize
from tblite.ase import TBLite

SEED = 2024
NEAR, BETWEEN = 120, 60  # pool frames near each minimum, and between them
TARGETS, TEST = 13, 40  # frames along the way
NEAR_ANGLE = 40.0  # degrees
POOL_NOISE, TEST_NOISE = 0.04, 0.03  # Å
MASS_C, MASS_N = 12.011, 14.007


def molecule(angle: float, distance: float, bond: float) -> Atoms:
    """Return C, N, H: H at `distance` (Å) from the mass centre of CN, `angle` (degrees) off the side of C."""
    c = bond * MASS_N / (MASS_C + MASS_N)
    gamma = np.deg2rad(angle)
    hydrogen = [distance * np.sin(gamma), 0.0, distance * np.cos(gamma)]
    return Atoms("CNH", [[0, 0, c], [0, 0, c - bond], hydrogen])


def energy(lengths: np.ndarray, angle: float) -> float:
    """GFN2-xTB energy (eV) at a fixed angle."""
    atoms = molecule(angle, *lengths)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    return float(atoms.get_potential_energy())


def path() -> dict[float, np.ndarray]:
    """Return angle (degrees) → relaxed distance of H and bond length of CN (Å), in steps of 10 degrees."""
    found: dict[float, np.ndarray] = {}
    lengths = np.array([1.65, 1.16])
    for angle in np.arange(0.0, 181.0, 10.0):
        lengths = minimize(energy, lengths, args=(angle,), method="Nelder-Mead", options={"xatol": 1e-3}).x
        found[float(angle)] = lengths
    return found


def frame(angle: float, relaxed: dict[float, np.ndarray], noise: float, rng: np.random.Generator) -> Atoms:
    """Return a geometry beside the path, turned at random, rounded to 1e-5 Å."""
    lengths = [np.interp(angle, list(relaxed), [pair[i] for pair in relaxed.values()]) for i in (0, 1)]
    atoms = molecule(angle, *lengths)
    atoms.positions += rng.normal(0, noise, (3, 3))
    atoms.euler_rotate(*rng.uniform(0, 360, 3))
    atoms.positions = np.round(atoms.positions - atoms.positions.mean(axis=0), 5)
    kind = "HCN" if angle < NEAR_ANGLE else "HNC" if angle > 180 - NEAR_ANGLE else "between"
    atoms.info = {"config_type": kind, "angle": round(float(angle), 2), "total_charge": 0, "total_spin": 1}
    return atoms


def main() -> None:
    """Write the files."""
    rng = np.random.default_rng(SEED)
    relaxed = path()
    near = rng.uniform(0, NEAR_ANGLE, (2, NEAR))
    angles = [*near[0], *(180 - near[1]), *rng.uniform(NEAR_ANGLE, 180 - NEAR_ANGLE, BETWEEN)]
    folder = Path(__file__).parent
    for name, frames in (
        ("pool", [frame(angle, relaxed, POOL_NOISE, rng) for angle in angles]),
        ("start-geometries", [frame(angle, relaxed, 0.0, rng) for angle in (0.0, 180.0)]),
        ("test-geometries", [frame(angle, relaxed, TEST_NOISE, rng) for angle in np.linspace(0, 180, TEST)]),
        ("targets", [frame(angle, relaxed, 0.0, rng) for angle in np.linspace(0, 180, TARGETS)]),
    ):
        write(folder / f"{name}.extxyz", frames, format="extxyz")


if __name__ == "__main__":
    main()
