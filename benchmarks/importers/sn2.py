"""`sn2-mp2`: reactants and products in the pool, transition states of other reactions in the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from importers.frames import Frames, Groups, calm, near_zero, rattled, sample
from importers.paths import coarse_path
from surveyor.errors import ConfigError
from surveyor.structures import read_structures


def sn2_mp2(
    data: Path,
    *,
    seed: int = 0,
    reactions: int = 500,
    ts_share: float = 0.1,
    test_reactions: int = 120,
    targets: int = 2,
    max_force: float = 15.0,
) -> Frames:
    """Split by reaction.

    Args:
        data: folder of sn2-mp2.extxyz.
        reactions: reactions of the pool: four frames near reactant and product each.
        ts_share: share of the pool that are transition states of these reactions.
        test_reactions: other reactions; two frames near the transition state each.
        targets: target geometries per test reaction, interpolated between its ends.
        max_force: eV/Å; frames with a larger force component are left out everywhere.
    """
    rng = np.random.default_rng(seed)
    frames = calm(read_structures(data / "sn2-mp2.extxyz"), max_force)
    groups = Groups.of(frames)
    order = rng.permutation(groups.reactions)
    if reactions + test_reactions > len(order):
        raise ConfigError(f"{reactions} + {test_reactions} reactions", expected=f"at most {len(order)}")
    of_pool = set(order[:reactions].tolist())
    of_test = order[reactions : reactions + test_reactions].tolist()
    ends = [a for a in frames if a.info["reaction"] in of_pool and _place(a) != "ts"]
    tops = [a for a in frames if a.info["reaction"] in of_pool and _place(a) == "ts"]
    n_tops = round(len(ends) * ts_share / (1 - ts_share))
    pool = ends + sample(tops, n_tops, rng, "ts_share")
    test = [a for a in frames if a.info["reaction"] in set(of_test) and _place(a) == "ts"]
    near_zero(pool, test)
    whole = [name for name in of_test if all((name, f"{p}-rattled-0.02") in groups.members for p in "rp")]
    target = [
        image
        for name in whole
        for image in coarse_path(
            groups[name, "r-rattled-0.02"][0], groups[name, "p-rattled-0.02"][0], targets
        )
    ]
    return Frames(pool=pool, test=test, target=target, latent=_latent(groups, order, rng))


def _place(atoms: Atoms) -> str:
    """`r`, `p` or `ts`."""
    return str(atoms.info["config_type"]).split("-")[0]


def _latent(groups: Groups, order: np.ndarray, rng: np.random.Generator) -> list[Atoms]:
    kinds = {"reactant": "r-rattled-0.02", "ts": "ts-rattled-0.02", "product": "p-rattled-0.02"}
    for name in order:
        if all((name, key) in groups.members for key in kinds.values()):
            ends = {kind: groups[name, key][0] for kind, key in kinds.items()}
            return [rattled(atoms, 0.05, rng, kind) for kind, atoms in ends.items() for _ in range(40)]
    return []
