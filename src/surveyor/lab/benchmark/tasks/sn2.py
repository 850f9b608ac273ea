"""`sn2-mp2`: reactants and products in the pool, transition states of other reactions in the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from pydantic import Field, PositiveFloat, PositiveInt

from surveyor.errors import ConfigError
from surveyor.lab.benchmark.tasks.frames import Frames, Groups, calm, near_zero, rattled, sample
from surveyor.lab.benchmark.tasks.paths import coarse_path
from surveyor.settings import Settings
from surveyor.structures import read_structures


class SN2Options(Settings):
    """Options of `sn2-mp2`.

    | key             | meaning                                                                     |
    |-----------------|-----------------------------------------------------------------------------|
    | data            | folder of sn2-mp2.extxyz                                                    |
    | reactions       | reactions of the pool: four frames near reactant and product each           |
    | ts_share        | share of the pool that are transition states of these reactions             |
    | test_reactions  | other reactions; two frames near the transition state each                  |
    | targets         | target geometries a test reaction, interpolated between its ends            |
    | max_force       | eV/Å; frames with a larger force component are left out everywhere          |
    """

    data: Path
    reactions: PositiveInt = 500
    ts_share: float = Field(default=0.1, ge=0, lt=1)
    test_reactions: PositiveInt = 120
    targets: PositiveInt = 2
    max_force: PositiveFloat = 15.0


def sn2_mp2(options: SN2Options, seed: int) -> Frames:
    """Split by reaction."""
    rng = np.random.default_rng(seed)
    frames = calm(read_structures(options.data / "sn2-mp2.extxyz"), options.max_force)
    groups = Groups.of(frames)
    order = rng.permutation(groups.reactions)
    if options.reactions + options.test_reactions > len(order):
        raise ConfigError(
            f"{options.reactions} + {options.test_reactions} reactions", expected=f"at most {len(order)}"
        )
    of_pool = set(order[: options.reactions].tolist())
    of_test = order[options.reactions : options.reactions + options.test_reactions].tolist()
    ends = [a for a in frames if a.info["reaction"] in of_pool and _place(a) != "ts"]
    tops = [a for a in frames if a.info["reaction"] in of_pool and _place(a) == "ts"]
    n_tops = round(len(ends) * options.ts_share / (1 - options.ts_share))
    pool = ends + sample(tops, n_tops, rng, "ts_share")
    test = [a for a in frames if a.info["reaction"] in set(of_test) and _place(a) == "ts"]
    near_zero(pool, test)
    whole = [name for name in of_test if all((name, f"{p}-rattled-0.02") in groups.members for p in "rp")]
    target = [
        image
        for name in whole
        for image in coarse_path(
            groups[name, "r-rattled-0.02"][0], groups[name, "p-rattled-0.02"][0], options.targets
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
