"""`h2-combustion`: AIMD and normal-mode frames in the pool, reaction coordinates in the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from importers.frames import Frames, Groups, evenly, rattled, sample
from importers.paths import coarse_path
from surveyor.structures import read_structures
from surveyor.structures.labels import ENERGY_KEY

GAP = 0.01
"""Share of a trajectory left out between the pool's part and the test's: neighbours leak."""


def h2_combustion(
    data: Path,
    *,
    seed: int = 0,
    pool: int = 2500,
    irc: int = 60,
    held_out: int = 90,
    part: float = 0.15,
    targets: int = 5,
) -> Frames:
    """Trajectories are cut in time: the test never holds a neighbour of a pool frame.

    Args:
        data: folder of h2-combustion-pool.extxyz and h2-combustion-irc.extxyz.
        pool: frames, in the file's natural mix.
        irc: test frames along the reaction coordinate of each reaction.
        held_out: test frames of the last parts of the trajectories.
        part: share of every trajectory, at its end, that the pool does not see.
        targets: target geometries per reaction, interpolated between the ends of its coordinate.
    """
    rng = np.random.default_rng(seed)
    trajectories = Groups.of(read_structures(data / "h2-combustion-pool.extxyz"))
    coordinates = Groups.of(read_structures(data / "h2-combustion-irc.extxyz"))
    early, late = early_and_late(trajectories, part)
    paths = {reaction: coordinates[reaction, "irc"] for reaction in coordinates.reactions}
    test = [atoms for path in paths.values() for atoms in evenly(path, irc)]
    return Frames(
        pool=sample(early, pool, rng, "pool"),
        test=test + sample(late, held_out, rng, "held_out"),
        target=[image for path in paths.values() for image in coarse_path(path[0], path[-1], targets)],
        latent=_latent(paths["h2-16"], rng),
    )


def early_and_late(trajectories: Groups, part: float = 0.15) -> tuple[list[Atoms], list[Atoms]]:
    """Every trajectory but its last part, and that part, a gap between them."""
    early: list[Atoms] = []
    late: list[Atoms] = []
    for key in sorted(trajectories.members):
        frames = sorted(trajectories[key], key=lambda atoms: int(atoms.info["frame"]))
        early += frames[: round(len(frames) * (1 - part - GAP))]
        late += frames[round(len(frames) * (1 - part)) :]
    for atoms in late:
        atoms.info["config_type"] = f"{atoms.info['config_type']}-late"
    return early, late


def _latent(path: list[Atoms], rng: np.random.Generator) -> list[Atoms]:
    top = int(np.argmax([float(atoms.info[ENERGY_KEY]) for atoms in path[1:-1]])) + 1
    ends = {"reactant": path[0], "ts": path[top], "product": path[-1]}
    return [rattled(atoms, 0.05, rng, kind) for kind, atoms in ends.items() for _ in range(40)]
