"""Picks and their stds on three small pools, as they were before: refactoring must not move them.

`python tests/test_pinned_picks.py` writes the pins anew; do so only for a change that is meant to move them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

import surveyor
from molecules import rattled
from surveyor.structures import read_structures
from surveyor.types import Potential
from tiny import random_crystal, random_molecule, tiny_mace

PINS = Path(__file__).parent / "data" / "picks.json"
REACTIONS = Path(__file__).parents[1] / "examples" / "reactions"
FEATURES = ("tangent", "activations")
RULES = ("target-variance", "max-variance", "lcmd")
N = 6

Pool = tuple[Potential, list[Atoms], list[Atoms]]


def _reactions() -> Pool:
    pool = list(islice(read_structures(REACTIONS / "pool.extxyz.gz"), 0, 400, 10))
    return surveyor.open_potential("builtin"), pool, list(read_structures(REACTIONS / "start.extxyz"))[:5]


def _molecules() -> Pool:
    return tiny_mace(correlation=3), rattled(40, seed=1), rattled(4, seed=2)


def _crystals() -> Pool:
    rng = np.random.default_rng(7)
    crystals = [random_crystal(rng) for _ in range(16)]
    return tiny_mace(max_L=1), [*crystals, *(random_molecule(rng, n) for n in (2, 3, 5, 6) * 3)], []


POOLS: dict[str, Callable[[], Pool]] = {
    "reactions": functools.cache(_reactions),
    "molecules": functools.cache(_molecules),
    "crystals": functools.cache(_crystals),
}
CASES = list(product(POOLS, FEATURES, RULES))
TOLERANCE = {"reactions": 1e-6}
"""Of the stds, 1e-12 where nothing else is said: the built-in potential sees the reactions in float32."""


@pytest.fixture(scope="module", autouse=True)
def _plain_execution() -> Iterator[None]:
    """Compiling TorchScript anew for each shape would take most of the time."""
    with torch.jit.optimized_execution(False):
        yield


def _picks(pool: str, features: str, rule: str) -> dict[str, list[float]]:
    potential, structures, labelled = POOLS[pool]()
    picked = surveyor.select(
        structures, labelled or None, potential, N, features=features, rule=rule, dim=48, seed=3
    )
    return {"indices": picked.indices, "stds": [pick.std for pick in picked.batch.picks]}


@pytest.mark.parametrize(("pool", "features", "rule"), CASES)
def test_picks_and_stds_are_those_of_before(pool: str, features: str, rule: str) -> None:
    wanted = json.loads(PINS.read_text())[f"{pool}, {features}, {rule}"]
    found = _picks(pool, features, rule)
    assert found["indices"] == wanted["indices"]
    np.testing.assert_allclose(found["stds"], wanted["stds"], rtol=TOLERANCE.get(pool, 1e-12))


if __name__ == "__main__":
    made = {", ".join(names): _picks(*names) for names in CASES}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(picks)}" for name, picks in made.items())
    PINS.write_text(f"{{\n{lines}\n}}\n")
