"""`acetylacetone`: a pool at 300 K; tests at 600 K and along the hydrogen transfer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from importers.frames import Frames, Groups, near_zero, sample
from importers.paths import coarse_path
from surveyor.structures import read_structures, without_labels

REACTION = "acetylacetone"


def acetylacetone(
    data: Path, *, seed: int = 0, pool: int = 1150, hot: int = 200, hot_targets: int = 10, targets: int = 5
) -> Frames:
    """Split by temperature. The transfer path carries energies only.

    Args:
        data: folder of acetylacetone-pbe.extxyz.
        pool: frames at 300 K.
        hot: test frames at 600 K; the frames of the transfer without its ends come besides.
        hot_targets: unlabelled frames at 600 K of another trajectory, as target geometries.
        targets: target geometries between the two ends of the transfer.
    """
    rng = np.random.default_rng(seed)
    groups = Groups.of(read_structures(data / "acetylacetone-pbe.extxyz"))
    cold = groups[REACTION, "train_300K"] + groups[REACTION, "test_MD_300K"]
    transfer = groups[REACTION, "test_H_transfer"]
    chosen = sample(cold, pool, rng, "pool")
    test = sample(groups[REACTION, "test_MD_600K"], hot, rng, "hot") + transfer[1:-1]
    near_zero(chosen, test)
    aims = [_as_target(a) for a in sample(groups[REACTION, "train_600K"], hot_targets, rng, "hot_targets")]
    return Frames(chosen, test, aims + coarse_path(transfer[0], transfer[-1], targets))


def _as_target(atoms: Atoms) -> Atoms:
    bare = without_labels(atoms)
    bare.info["config_type"] = "target"
    return bare
