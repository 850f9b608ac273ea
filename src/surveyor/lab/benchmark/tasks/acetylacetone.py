"""`acetylacetone`: a pool at 300 K; tests at 600 K and along the hydrogen transfer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from pydantic import Field, PositiveInt

from surveyor.lab.benchmark.tasks.frames import Frames, Groups, near_zero, sample
from surveyor.lab.benchmark.tasks.paths import coarse_path
from surveyor.settings import Settings
from surveyor.structures import read_structures, without_labels

REACTION = "acetylacetone"


class AcetylacetoneOptions(Settings):
    """Options of `acetylacetone`.

    | key         | meaning                                                                             |
    |-------------|-------------------------------------------------------------------------------------|
    | data        | folder of acetylacetone-pbe.extxyz                                                  |
    | pool        | frames at 300 K                                                                     |
    | hot         | test frames at 600 K; the frames of the transfer without its ends come besides      |
    | hot_targets | unlabelled frames at 600 K of another trajectory, as target geometries              |
    | targets     | target geometries between the two ends of the transfer                              |
    """

    data: Path
    pool: PositiveInt = 1150
    hot: PositiveInt = 200
    hot_targets: int = Field(default=10, ge=0)
    targets: PositiveInt = 5


def acetylacetone(options: AcetylacetoneOptions, seed: int) -> Frames:
    """Split by temperature. The transfer path carries energies only."""
    rng = np.random.default_rng(seed)
    groups = Groups.of(read_structures(options.data / "acetylacetone-pbe.extxyz"))
    cold = groups[REACTION, "train_300K"] + groups[REACTION, "test_MD_300K"]
    transfer = groups[REACTION, "test_H_transfer"]
    pool = sample(cold, options.pool, rng, "pool")
    test = sample(groups[REACTION, "test_MD_600K"], options.hot, rng, "hot") + transfer[1:-1]
    near_zero(pool, test)
    hot = [
        _as_target(a) for a in sample(groups[REACTION, "train_600K"], options.hot_targets, rng, "hot_targets")
    ]
    return Frames(pool, test, target=hot + coarse_path(transfer[0], transfer[-1], options.targets))


def _as_target(atoms: Atoms) -> Atoms:
    bare = without_labels(atoms)
    bare.info["config_type"] = "target"
    return bare
