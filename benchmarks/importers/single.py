"""Pools of one system: a reaction, a molecule; cut into parts in time or along the path, never by frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from importers.frames import Frames, Groups, evenly, near_zero, sample
from importers.h2 import early_and_late
from surveyor.structures import read_structures


def h2_reaction(
    data: Path, *, reaction: str, seed: int = 0, pool: int = 1000, irc: int = 50, held_out: int = 70
) -> Frames:
    """One reaction of the `h2-combustion` files; test on its coordinate and the ends of its trajectories.

    Args:
        data: folder of h2-combustion-pool.extxyz and h2-combustion-irc.extxyz.
        reaction: h2-03, h2-16 or h2-17.
        pool: frames, in the file's natural mix.
        irc: test frames along the reaction coordinate.
        held_out: test frames of the last parts of the trajectories.
    """
    rng = np.random.default_rng(seed)
    trajectories = Groups.of(
        a for a in read_structures(data / "h2-combustion-pool.extxyz") if a.info["reaction"] == reaction
    )
    path = Groups.of(read_structures(data / "h2-combustion-irc.extxyz"))[reaction, "irc"]
    early, late = early_and_late(trajectories)
    chosen = sample(early, pool, rng, "pool")
    return Frames(chosen, evenly(path, irc) + sample(late, held_out, rng, "held_out"), [])


def acetylacetone_300k(data: Path, *, seed: int = 0, pool: int = 500, test: int = 150) -> Frames:
    """Pool and test at 300 K, of two trajectories.

    Args:
        data: folder of acetylacetone-pbe.extxyz.
    """
    rng = np.random.default_rng(seed)
    groups = Groups.of(read_structures(data / "acetylacetone-pbe.extxyz"))
    chosen = sample(groups["acetylacetone", "train_300K"], pool, rng, "pool")
    judged = sample(groups["acetylacetone", "test_MD_300K"], test, rng, "test")
    near_zero(chosen, judged)
    return Frames(chosen, judged, [])


def diels_alder(data: Path, *, seed: int = 0, blocks: int = 8, of_test: int = 2) -> Frames:
    """Butadiene and ethene around their transition state; whole blocks of the file make the test.

    Args:
        data: folder of diels-alder-mp2.extxyz.
        blocks: parts that the file is cut into.
        of_test: how many of them are the test.
    """
    frames = list(read_structures(data / "diels-alder-mp2.extxyz"))
    pool, test = by_blocks(frames, blocks, of_test, np.random.default_rng(seed))
    near_zero(pool, test)
    return Frames(pool, test, [])


def by_blocks(
    frames: Sequence[Atoms], blocks: int, of_test: int, rng: np.random.Generator
) -> tuple[list[Atoms], list[Atoms]]:
    """The frames outside and inside of a few seeded blocks of neighbours."""
    block = np.arange(len(frames)) * blocks // len(frames)
    inside = np.isin(block, rng.choice(blocks, of_test, replace=False))
    return (
        [atoms for atoms, held in zip(frames, inside, strict=True) if not held],
        [atoms for atoms, held in zip(frames, inside, strict=True) if held],
    )
