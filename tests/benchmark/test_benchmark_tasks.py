"""The built tasks: what may be labelled, what is tested, and that nothing leaks between them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from conftest import DATA, data_file, emt_labelled, rattled
from surveyor.errors import ConfigError, StructureError
from surveyor.lab.benchmark.schema import TaskSpec
from surveyor.lab.benchmark.tasks import KINDS, prepare, read_task
from surveyor.lab.benchmark.tasks.frames import Frames, near_zero
from surveyor.lab.benchmark.tasks.paths import along, interpolated
from surveyor.lab.benchmark.tasks.rdb7 import _shared, reaction_family
from surveyor.structures import has_labels, structure_id, write_structures
from surveyor.structures.labels import ENERGY_KEY

RDB7 = {
    "reactions": 4,
    "frames": 5,
    "path_share": 0.2,
    "test_reactions": 2,
    "test_frames": 2,
    "targets": 1,
    "max_atoms": 6,
}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "h2-combustion": ("h2-combustion-pool.extxyz", {"pool": 60, "irc": 5, "held_out": 6, "targets": 2}),
    "sn2-mp2": ("sn2-mp2.extxyz", {"reactions": 6, "test_reactions": 2, "targets": 1}),
    "acetylacetone": ("acetylacetone-pbe.extxyz", {"pool": 30, "hot": 5, "hot_targets": 2, "targets": 2}),
    "rdb7-paths": ("rdb7-geometries.extxyz", RDB7),
    "rdb7-biased": ("rdb7-geometries.extxyz", RDB7),
}


@cache
def build(kind: str, seed: int = 0) -> Frames:
    file, options = SMALL[kind]
    data_file(file)
    return KINDS[kind].build(KINDS[kind].options.model_validate({"data": DATA, **options}), seed)


def ids(frames: Any) -> set[str]:
    return {structure_id(atoms) for atoms in frames}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_pool_test_and_targets_are_different_frames(kind: str) -> None:
    frames = build(kind)
    assert len(frames.pool) > 0
    assert len(frames.test) > 0
    assert len(frames.target) > 0
    assert not ids(frames.pool) & ids(frames.test)
    assert not ids(frames.target) & (ids(frames.test) | ids(frames.pool))
    assert not any(ENERGY_KEY in atoms.info for atoms in frames.target)
    assert ids(build.__wrapped__(kind).pool) == ids(frames.pool)
    assert ids(build.__wrapped__(kind, seed=1).pool) != ids(frames.pool)
    if frames.labels is None:
        assert all(has_labels(atoms) for atoms in frames.pool)
        assert max(abs(float(atoms.info[ENERGY_KEY])) for atoms in frames.test) < 1000.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sn2-mp2", "rdb7-paths", "rdb7-biased"])
def test_pool_and_test_are_of_different_reactions(kind: str) -> None:
    frames = build(kind)
    assert not {a.info["reaction"] for a in frames.pool} & {a.info["reaction"] for a in frames.test}


@pytest.mark.slow
def test_trajectories_are_cut_in_time() -> None:
    frames = build("h2-combustion")
    late = [a for a in frames.test if str(a.info["config_type"]).endswith("-late")]
    assert len(late) == 6
    for atoms in late:
        key = (atoms.info["reaction"], str(atoms.info["config_type"]).removesuffix("-late"))
        before = [
            int(a.info["frame"]) for a in frames.pool if (a.info["reaction"], a.info["config_type"]) == key
        ]
        assert max(before) < int(atoms.info["frame"])


@pytest.mark.slow
def test_temperatures_are_apart_and_the_transfer_has_energies_only() -> None:
    frames = build("acetylacetone")
    assert {str(a.info["config_type"]) for a in frames.pool} <= {"train_300K", "test_MD_300K"}
    transfer = [a for a in frames.test if a.info["config_type"] == "test_H_transfer"]
    assert len(transfer) == 13  # of 15: the ends make the targets
    assert not any(has_labels(atoms) for atoms in transfer)


@pytest.mark.slow
def test_shares_of_a_pool_of_reactions() -> None:
    frames = build("rdb7-paths")
    kinds = [str(a.info["config_type"]) for a in frames.pool]
    assert len(kinds) == 20
    assert kinds.count("path") == 4


def test_whole_numbers_follow_a_share() -> None:
    assert _shared(0.5, 5) == [1, 0, 1, 0, 1]
    assert sum(_shared(0.3, 10)) == 3


@pytest.mark.slow
def test_families_of_the_biased_pool_are_not_in_half_of_the_test() -> None:
    frames = build("rdb7-biased")
    assert {str(a.info["config_type"]) for a in frames.test} == {"path-unseen-family", "path-seen-family"}


def test_a_reaction_family_names_the_bonds_that_change() -> None:
    water = molecule("H2O")
    apart = water.copy()
    apart.positions[1] += [0.0, 5.0, 0.0]
    assert reaction_family(water, apart) == "H-O|"
    assert reaction_family(apart, water) == "|H-O"
    assert reaction_family(water, water) == "|"


def test_a_path_goes_through_its_waypoints_and_has_even_steps() -> None:
    first = Atoms("H3", positions=[[0, 0, 0], [0.8, 0, 0], [2.8, 0, 0]])
    top = Atoms("H3", positions=[[0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])
    last = Atoms("H3", positions=[[0, 0, 0], [2.0, 0, 0], [2.8, 0, 0]])
    found = along([first, top, last], np.linspace(0, 1, 9))
    lengths = np.array([[a.get_distance(0, 1), a.get_distance(1, 2)] for a in found])
    np.testing.assert_allclose(lengths[0], [0.8, 2.0], atol=1e-6)
    np.testing.assert_allclose(lengths[-1], [2.0, 0.8], atol=1e-6)
    assert np.abs(lengths - [1.0, 1.0]).sum(axis=1).min() < 0.1
    assert (np.diff(lengths[:, 0]) > 0).all()
    assert [len(image) for image in interpolated(first, last, 2)] == [3, 3]


def test_round_references_change_energies_by_composition_only() -> None:
    frames = emt_labelled(rattled(12, seed=0))
    for atoms in frames:
        atoms.info[ENERGY_KEY] += 1234.5 * (atoms.numbers == 8).sum() - 777.7 * len(atoms)
    before = np.array([atoms.info[ENERGY_KEY] for atoms in frames])
    near_zero(frames[:6], frames[6:])
    after = np.array([atoms.info[ENERGY_KEY] for atoms in frames])
    counts = np.array([[(atoms.numbers == z).sum() for z in (1, 6, 7, 8)] for atoms in frames])
    shifts = np.linalg.lstsq(counts, before - after, rcond=None)[0]
    np.testing.assert_allclose(shifts, np.round(shifts, -1), atol=1e-6)
    assert np.abs(after).max() < 200.0


def spec_of(folder: Path, **keys: Any) -> TaskSpec:
    write_structures(folder / "pool.extxyz", emt_labelled(rattled(30, seed=1)))
    write_structures(folder / "test.extxyz", emt_labelled(rattled(6, seed=2)))
    return TaskSpec(
        **{
            "start": 4,
            "batch": 5,
            "rounds": 2,
            "pool": str(folder / "pool.extxyz"),
            "test": str(folder / "test.extxyz"),
            **keys,
        }
    )


def test_prepared_frames_come_back_with_their_labels(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    prepare("mine", spec, tmp_path / "cache")
    task = read_task("mine", spec, tmp_path / "cache")
    assert len(task.pool) == 30
    assert set(task.ids["pool"]) == ids(rattled(30, seed=1))
    assert all(has_labels(atoms) for atoms in (*task.pool, *task.test))
    assert task.target == []


def test_a_target_that_is_a_test_frame_is_refused(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, target=str(tmp_path / "test.extxyz"))
    with pytest.raises(StructureError, match="target geometry 0 is a test frame"):
        prepare("mine", spec, tmp_path / "cache")


def test_a_pool_that_is_too_small_or_holds_test_frames(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, rounds=6)
    with pytest.raises(ConfigError, match="34 labels to choose from a pool of 30"):
        prepare("mine", spec, tmp_path / "cache")
    spec = spec_of(tmp_path)
    write_structures(tmp_path / "pool.extxyz", emt_labelled([*rattled(30, seed=1), *rattled(6, seed=2)]))
    prepare("leaky", spec, tmp_path / "cache")
    assert len(read_task("leaky", spec, tmp_path / "cache").pool) == 30


def test_missing_labels_come_from_the_calculator_once(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, labels={"calculator": "ase.calculators.emt:EMT"})
    write_structures(tmp_path / "test.extxyz", rattled(6, seed=2))
    prepare("mine", spec, tmp_path / "cache")
    task = read_task("mine", spec, tmp_path / "cache")
    assert all(has_labels(atoms) for atoms in task.test)
    assert task.label_seconds is not None
    first = task.oracle(task.ids["pool"][0], task.pool[0])
    again = read_task("mine", spec, tmp_path / "cache").oracle
    assert again(task.ids["pool"][0], task.pool[0]).energy == first.energy  # type: ignore[union-attr]
    assert again.computed == 0
