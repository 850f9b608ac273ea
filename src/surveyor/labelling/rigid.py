"""Do forces belong to the geometry? On an isolated molecule they leave no net force and no net torque."""

from __future__ import annotations

import numpy as np

from surveyor.types import Float64Array

NOISE = 0.01
"""eV/Å per atom, all atoms alike: more than integration grids and egg boxes of sound calculations leave."""

SHARE = 0.02
"""Of Σ|F| and of Σ|r × F|, in addition to the noise."""

CLEARLY = 5.0
"""One of two frames is the right one if the other leaves this many times its net torque …"""

VISIBLE = 0.02
"""… and at least this share of Σ|r × F|."""

SAME = 1e-3
"""eV/Å; forces that differ by less are the same."""


def net_and_total(vectors: Float64Array) -> tuple[float, float]:
    """|Σ v| and Σ |v| of (n, 3) vectors."""
    return float(np.linalg.norm(vectors.sum(axis=0))), float(np.linalg.norm(vectors, axis=1).sum())


def torques(positions: Float64Array, forces: Float64Array) -> Float64Array:
    """(n, 3) torques about the centre of (n, 3) positions, r × F, in eV."""
    return np.asarray(np.cross(positions - positions.mean(axis=0), forces), dtype=np.float64)


def imbalance(positions: Float64Array, forces: Float64Array) -> str:
    """Why (n, 3) forces in eV/Å do not belong to a molecule at (n, 3) positions in Å, or empty."""
    net, total = net_and_total(forces)
    if net > NOISE * (len(forces) + 1) + SHARE * total:
        return f"net force {net:.3g} eV/Å of {total:.3g}"
    net, total = net_and_total(torques(positions, forces))
    _, reach = net_and_total(positions - positions.mean(axis=0))
    if net > NOISE * (reach + 1) + SHARE * total:
        return f"net torque {net:.3g} eV of {total:.3g}"
    return ""


def undecided(positions: Float64Array, moved: Float64Array, unmoved: Float64Array) -> str:
    """Why it cannot be told whether forces went along when a program turned or reordered the atoms, or empty.

    Both readings are put on the same positions (n, 3): forces (n, 3) as they are if they were moved with the
    atoms, and if they were not. Where the two differ, the net torque has to speak for `moved`: on planar,
    linear and symmetric molecules it may vanish for both.
    """
    difference = float(np.abs(moved - unmoved).max())
    if difference <= SAME:
        return ""
    torque, _ = net_and_total(torques(positions, moved))
    other, total = net_and_total(torques(positions, unmoved))
    if other > CLEARLY * torque and other > VISIBLE * total:
        return ""
    return (
        f"its forces may or may not have gone along, which differs by up to {difference:.3g} eV/Å: "
        f"the net torque is {torque:.2g} eV one way and {other:.2g} eV the other"
    )
