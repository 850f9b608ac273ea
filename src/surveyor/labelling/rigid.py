"""Do forces belong to the geometry? On an isolated molecule they leave no net force and no net torque."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surveyor.types import Float64Array

NOISE = 0.01
"""eV/Å an atom, all atoms alike: more than integration grids and egg boxes of sound calculations leave."""

SHARE = 0.02
"""Of Σ|F| and of Σ|r × F|, in addition to the noise."""

CLEARLY = 5.0
"""One of two frames is the right one if the other leaves this many times its net torque …"""

VISIBLE = 0.02
"""… and at least this share of Σ|r × F|."""

SAME = 1e-3
"""eV/Å; forces that differ by less are the same."""


@dataclass(frozen=True)
class Balance:
    """What the forces on a molecule add up to; torques about its centre.

    | field        | meaning            | unit |
    |--------------|--------------------|------|
    | force        | |Σ F|              | eV/Å |
    | all_forces   | Σ |F|              | eV/Å |
    | torque       | |Σ r × F|          | eV   |
    | all_torques  | Σ |r × F|          | eV   |
    | reach        | Σ |r|              | Å    |
    | n_atoms      |                    |      |
    """

    force: float
    all_forces: float
    torque: float
    all_torques: float
    reach: float
    n_atoms: int

    @property
    def fault(self) -> str:
        """Why positions and forces do not belong together, or empty."""
        if self.force > NOISE * (self.n_atoms + 1) + SHARE * self.all_forces:
            return f"net force {self.force:.3g} eV/Å of {self.all_forces:.3g}"
        if self.torque > NOISE * (self.reach + 1) + SHARE * self.all_torques:
            return f"net torque {self.torque:.3g} eV of {self.all_torques:.3g}"
        return ""


def balance(positions: Float64Array, forces: Float64Array) -> Balance:
    """Net force and torque.

    Args:
        positions: (n, 3) Å.
        forces: (n, 3) eV/Å, in the same order and frame, if all is well.
    """
    arms = positions - positions.mean(axis=0)
    torques = np.cross(arms, forces)
    return Balance(
        force=float(np.linalg.norm(forces.sum(axis=0))),
        all_forces=float(np.linalg.norm(forces, axis=1).sum()),
        torque=float(np.linalg.norm(torques.sum(axis=0))),
        all_torques=float(np.linalg.norm(torques, axis=1).sum()),
        reach=float(np.linalg.norm(arms, axis=1).sum()),
        n_atoms=len(positions),
    )


def undecided(positions: Float64Array, moved: Float64Array, unmoved: Float64Array) -> str:
    """Why it cannot be told whether forces went along when a program turned or reordered the atoms, or empty.

    Both readings are put on the same positions. Where the two are different forces, the net torque has to
    speak for `moved`: on planar, linear and symmetric molecules it may vanish for both.

    Args:
        positions: (n, 3) of the structure, Å.
        moved: (n, 3) the forces if they were turned and reordered with the atoms, eV/Å.
        unmoved: (n, 3) the forces if they were not.
    """
    difference = float(np.abs(moved - unmoved).max())
    if difference <= SAME:
        return ""
    one, other = balance(positions, moved), balance(positions, unmoved)
    if other.torque > CLEARLY * one.torque and other.torque > VISIBLE * other.all_torques:
        return ""
    return (
        f"its forces may or may not have gone along, which differs by up to {difference:.3g} eV/Å: "
        f"the net torque is {one.torque:.2g} eV one way and {other.torque:.2g} eV the other"
    )
