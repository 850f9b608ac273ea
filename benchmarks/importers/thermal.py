"""`thermal-…`: one molecule in Langevin dynamics with GFN2-xTB; nothing but the molecule is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.optimize import BFGS
from tblite.ase import TBLite

from importers.frames import Frames
from surveyor.structures.labels import ENERGY_KEY, FORCES_KEY

STEP = 1.0
"""fs."""

FRICTION = 0.01
"""1/fs."""


def thermal(
    data: Path,  # noqa: ARG001 - as all importers have it
    *,
    name: str,
    seed: int = 0,
    temperature: float = 500.0,
    pool: int = 900,
    test: int = 150,
    every: int = 6,
    gap: int = 50,
    settle: int = 1000,
) -> Frames:
    """The first part of a trajectory is the pool, the last the test.

    Args:
        name: of a molecule in `ase.build.molecule`.
        temperature: K.
        every: steps of 1 fs between frames.
        gap: frames left out between pool and test.
        settle: steps before the first frame.
    """
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
    spread = np.sqrt(atoms.get_masses() * units.kB * temperature)
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * spread[:, None])
    motion = Langevin(
        atoms,
        STEP * units.fs,
        temperature_K=temperature,
        friction=FRICTION / units.fs,
        rng=rng,
        fixcm=False,
    )
    motion.run(settle)
    frames: list[Atoms] = []
    for number in range(pool + gap + test):
        motion.run(every)
        frames.append(_labelled(atoms, name, number))
    return Frames(frames[:pool], frames[pool + gap :], [])


def _labelled(atoms: Atoms, name: str, frame: int) -> Atoms:
    copy = Atoms(atoms.numbers, positions=atoms.positions)
    copy.info = {"reaction": name, "config_type": "thermal", "frame": frame}
    copy.info[ENERGY_KEY] = float(atoms.get_potential_energy())
    copy.arrays[FORCES_KEY] = np.array(atoms.get_forces())
    return copy
