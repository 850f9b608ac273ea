"""Tasks: what may be labelled, what is tested, and that nothing leaks between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import emt_labelled, rattled
from surveyor.errors import ConfigError, StructureError
from surveyor.lab.benchmark.schema import TaskSpec
from surveyor.lab.benchmark.tasks import prepare, read_task
from surveyor.structures import has_labels, structure_id, write_structures
from surveyor.structures.labels import ENERGY_KEY, FORCES_KEY


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
    assert set(task.ids["pool"]) == {structure_id(atoms) for atoms in rattled(30, seed=1)}
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


def test_energies_alone_are_enough_for_a_test_and_not_for_a_pool(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    frames = emt_labelled(rattled(6, seed=2))
    del frames[4].arrays[FORCES_KEY]
    write_structures(tmp_path / "test.extxyz", frames)
    prepare("mine", spec, tmp_path / "cache")
    test = read_task("mine", spec, tmp_path / "cache").test
    assert [has_labels(atoms) for atoms in test] == [True] * 4 + [False, True]
    assert [a.info[ENERGY_KEY] for a in test] == pytest.approx([a.info[ENERGY_KEY] for a in frames], abs=1e-8)
    del frames[2].info[ENERGY_KEY]
    write_structures(tmp_path / "test.extxyz", frames)
    with pytest.raises(StructureError, match="frame 2: no REF_energy"):
        prepare("no energy", spec, tmp_path / "cache")
    pool = emt_labelled(rattled(30, seed=1))
    del pool[7].arrays[FORCES_KEY]
    write_structures(tmp_path / "pool.extxyz", pool)
    with pytest.raises(StructureError, match="frame 7: no REF_forces"):
        prepare("no forces", spec, tmp_path / "cache")


@pytest.mark.parametrize("given", [True, False])
def test_the_map_shows_frames_of_one_reaction(tmp_path: Path, given: bool) -> None:
    spec = spec_of(tmp_path, **({"latent": str(tmp_path / "latent.extxyz")} if given else {}))
    pool = emt_labelled(rattled(30, seed=1))
    for number, atoms in enumerate(pool):
        kind = ("start", "end")[number % 2] if number % 3 else "only"
        atoms.info |= {"reaction": "two" if number % 3 else "one", "config_type": kind}
    write_structures(tmp_path / "pool.extxyz", pool)
    write_structures(tmp_path / "latent.extxyz", rattled(3, seed=5))
    prepare("mine", spec, tmp_path / "cache")
    shown = read_task("mine", spec, tmp_path / "cache").ids["latent"]
    own = rattled(3, seed=5) if given else [atoms for atoms in pool if atoms.info["reaction"] == "two"]
    assert set(shown) == {structure_id(atoms) for atoms in own}
