"""The importers of pools of one system and of one family: parts that the test shares no neighbour with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from test_importers import methanols, write_made_up

from importers.frames import Frames
from importers.rdb7 import Sizes, rdb7_family, rdb7_reaction, reaction_family
from importers.single import acetylacetone_300k, by_blocks, diels_alder, h2_reaction
from importers.thermal import thermal
from surveyor.structures import has_labels, read_structures, structure_id, write_structures
from surveyor.structures.labels import ENERGY_KEY


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_made_up(folder)
    write_structures(folder / "diels-alder-mp2.extxyz", methanols(40, "da", "da", 5))
    return folder


def check(frames: Frames, pool: int, test: int) -> None:
    known, judged = ({structure_id(a) for a in part} for part in (frames.pool, frames.test))
    assert (len(known), len(judged)) == (pool, test)
    assert not known & judged


def test_one_reaction_of_several(data: Path) -> None:
    frames = h2_reaction(data, reaction="h2-16", pool=30, irc=4, held_out=5)
    check(frames, 30, 9)
    assert {a.info["reaction"] for a in [*frames.pool, *frames.test]} == {"h2-16"}
    late = [int(a.info["frame"]) for a in frames.test if a.info["config_type"] == "aimd-late"]
    assert max(int(a.info["frame"]) for a in frames.pool) < min(late)


def test_one_temperature_of_two_trajectories(data: Path) -> None:
    frames = acetylacetone_300k(data, pool=30, test=15)
    check(frames, 30, 15)
    assert {str(a.info["config_type"]) for a in frames.pool} == {"train_300K"}
    assert {str(a.info["config_type"]) for a in frames.test} == {"test_MD_300K"}


def test_whole_blocks_are_the_test(data: Path) -> None:
    frames = diels_alder(data)
    check(frames, 30, 10)
    assert max(abs(float(a.info[ENERGY_KEY])) for a in frames.test) < 1000.0
    numbered = [Atoms("H", info={"frame": i}) for i in range(40)]
    _, test = by_blocks(numbered, 8, 2, np.random.default_rng(0))
    places = np.array([a.info["frame"] for a in test])
    assert sorted(np.unique(places // 5, return_counts=True)[1].tolist()) == [5, 5]


def test_one_reaction_along_its_path(data: Path) -> None:
    frames = rdb7_reaction(data, pool=12, test=6)
    check(frames, 12, 6)
    assert len({a.info["reaction"] for a in [*frames.pool, *frames.test]}) == 1
    assert not any(has_labels(a) for a in frames.pool)


def test_one_family_of_reactions(data: Path) -> None:
    sizes = Sizes(3, 4, test_reactions=2, test_frames=2, targets=1, max_atoms=6)
    frames = rdb7_family(data, sizes=sizes)
    check(frames, 12, 4)
    pool, test = ({str(a.info["reaction"]) for a in part} for part in (frames.pool, frames.test))
    assert not pool & test
    ends = {
        (str(a.info["reaction"]), a.info["config_type"]): a
        for a in read_structures(data / "rdb7-geometries.extxyz")
    }
    families = {reaction_family(ends[name, "r"], ends[name, "p"]) for name in pool | test}
    assert len(families) == 1


def test_dynamics_are_seeded_and_the_test_comes_after_the_pool() -> None:
    sizes = {"name": "H2O", "pool": 4, "test": 3, "every": 2, "gap": 2, "settle": 3}
    frames = thermal(Path(), **sizes)
    check(frames, 4, 3)
    assert [a.info["frame"] for a in frames.pool] == [0, 1, 2, 3]
    assert [a.info["frame"] for a in frames.test] == [6, 7, 8]
    assert all(has_labels(a) for a in [*frames.pool, *frames.test])
    again = thermal(Path(), **sizes)
    np.testing.assert_array_equal(again.test[-1].positions, frames.test[-1].positions)
    other = thermal(Path(), **sizes, seed=1)
    assert np.abs(other.test[-1].positions - frames.test[-1].positions).max() > 1e-3
