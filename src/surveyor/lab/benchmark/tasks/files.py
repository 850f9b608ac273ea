"""`files`: structures of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms

from surveyor.config import LabelConfig
from surveyor.lab.benchmark.tasks.frames import Frames, Groups
from surveyor.settings import Settings
from surveyor.structures import read_structures
from surveyor.structures.label_keys import read_labelled

SHOWN = 60
"""Frames of a kind on the map of the latent space."""


class FilesOptions(Settings):
    """Options of the kind `files`.

    | key    | meaning                                                                                |
    |--------|----------------------------------------------------------------------------------------|
    | pool   | structures to choose from; labelled where `labels` is oracle                           |
    | test   | labelled structures, never trained on                                                  |
    | target | unlabelled structures for strategies with `target: task`                               |
    | labels | oracle: those in the file of the pool; otherwise a calculator as in a campaign file    |
    """

    pool: Path
    test: Path
    target: Path | None = None
    labels: Literal["oracle"] | LabelConfig = "oracle"


def files(options: FilesOptions, seed: int) -> Frames:
    """The files as they are."""
    calculator = None if options.labels == "oracle" else options.labels
    pool, test = (
        list(read_labelled(path).structures if calculator is None else read_structures(path))
        for path in (options.pool, options.test)
    )
    return Frames(
        pool=pool,
        test=test,
        target=list(read_structures(options.target)) if options.target else [],
        latent=_latent(pool, np.random.default_rng(seed)),
        labels=calculator,
    )


def _latent(pool: list[Atoms], rng: np.random.Generator) -> list[Atoms]:
    """Frames of the reaction that has the most kinds; none where fewer than two kinds are named."""
    if not all("reaction" in atoms.info and "config_type" in atoms.info for atoms in pool):
        return []
    groups = Groups.of(pool)
    kinds = {name: [k for r, k in groups.members if r == name] for name in groups.reactions}
    name = max(kinds, key=lambda reaction: len(kinds[reaction]))
    if len(kinds[name]) < 2:
        return []
    chosen = []
    for kind in kinds[name]:
        members = groups[name, kind]
        chosen += [members[i] for i in np.sort(rng.permutation(len(members))[:SHOWN])]
    return chosen
