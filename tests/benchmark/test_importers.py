"""The importers of published data: how they split it; the committed grids were run on what they write."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from conftest import DATA, data_file, emt_labelled, rattled
from import_tasks import KNOWN, TASKS, write_task
from importers.frames import Frames, near_zero
from importers.paths import along, interpolated
from importers.rdb7 import Sizes, reaction_family, whole_shares
from surveyor.lab.benchmark import load_benchmark
from surveyor.lab.benchmark.records import read_runs
from surveyor.lab.benchmark.run import first_labelled
from surveyor.lab.benchmark.tasks import prepare, read_task
from surveyor.structures import has_labels, structure_id, write_structures
from surveyor.structures.labels import ENERGY_KEY, FORCES_KEY

BENCHMARKS = KNOWN.parent
RDB7 = {"sizes": Sizes(4, 5, path_share=0.2, test_reactions=2, test_frames=2, targets=1, max_atoms=6)}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "h2-combustion": ("h2-combustion-pool.extxyz", {"pool": 60, "irc": 5, "held_out": 6, "targets": 2}),
    "sn2-mp2": ("sn2-mp2.extxyz", {"reactions": 6, "test_reactions": 2, "targets": 1}),
    "acetylacetone": ("acetylacetone-pbe.extxyz", {"pool": 30, "hot": 5, "hot_targets": 2, "targets": 2}),
    "rdb7-paths": ("rdb7-geometries.extxyz", RDB7),
    "rdb7-biased": ("rdb7-geometries.extxyz", RDB7),
}


def methanols(count: int, reaction: str, kind: str, seed: int) -> list[Atoms]:
    """Labelled frames of a made-up trajectory."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(count):
        atoms = molecule("CH3OH")
        atoms.positions += rng.normal(0.0, 0.03, (6, 3))
        atoms.info = {"reaction": reaction, "config_type": kind, "frame": number}
        frames.append(atoms)
    return emt_labelled(frames)


def write_made_up(folder: Path) -> None:
    """Small files of the layout of the published ones."""
    aimd = [a for i in (3, 16) for a in methanols(60, f"h2-{i}", "aimd", i)]
    irc = [a for i in (3, 16) for a in methanols(9, f"h2-{i}", "irc", 20 + i)]
    counts = {
        "train_300K": 40,
        "test_MD_300K": 20,
        "train_600K": 10,
        "test_MD_600K": 10,
        "test_H_transfer": 15,
    }
    diketone = {k: methanols(n, "acetylacetone", k, i) for i, (k, n) in enumerate(counts.items())}
    for atoms in diketone["test_H_transfer"]:
        del atoms.arrays[FORCES_KEY]
    kinds = [f"{place}-rattled-{width}" for place in ("r", "p", "ts") for width in ("0.02", "0.05")]
    reactions = [(f"r{i}", kind, 100 * i + j) for i in range(12) for j, kind in enumerate(kinds)]
    sn2 = [a for name, kind, seed in reactions for a in methanols(2, name, kind, seed)]
    paths = [
        a
        for i in range(12)
        for j, k in enumerate(("r", "ts", "p"))
        for a in methanols(1, f"x{i}", k, 9 * i + j)
    ]
    for atoms in paths[2:18:3]:  # products of half of the reactions lose a hydrogen of the carbon
        atoms.positions[2] *= 4.0
    for atoms in paths:
        del atoms.info[ENERGY_KEY], atoms.arrays[FORCES_KEY]
    files = {
        "h2-combustion-pool": aimd,
        "h2-combustion-irc": irc,
        "acetylacetone-pbe": [a for frames in diketone.values() for a in frames],
        "sn2-mp2": sn2,
        "rdb7-geometries": paths,
    }
    for name, frames in files.items():
        write_structures(folder / f"{name}.extxyz", frames)


Build = Callable[..., Frames]


@pytest.fixture(scope="module", params=["made up", pytest.param("published", marks=pytest.mark.slow)])
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Small tasks, from made-up files and from the published ones where they are."""
    folder = DATA
    if request.param == "made up":
        folder = tmp_path_factory.mktemp("data")
        write_made_up(folder)

    @cache
    def made(name: str, seed: int = 0) -> Frames:
        file, sizes = SMALL[name]
        if folder == DATA:
            data_file(file)
        return TASKS[name](folder, seed=seed, **sizes)  # type: ignore[call-arg]

    return made


def ids(frames: Any) -> set[str]:
    return {structure_id(atoms) for atoms in frames}


@pytest.mark.parametrize("name", SMALL)
def test_pool_test_and_targets_are_different_frames(build: Build, name: str) -> None:
    frames = build(name)
    assert len(frames.pool) > 0
    assert len(frames.test) > 0
    assert len(frames.target) > 0
    assert not ids(frames.pool) & ids(frames.test)
    assert not ids(frames.target) & (ids(frames.test) | ids(frames.pool))
    assert not any(ENERGY_KEY in atoms.info for atoms in frames.target)
    assert ids(build.__wrapped__(name).pool) == ids(frames.pool)
    assert ids(build.__wrapped__(name, seed=1).pool) != ids(frames.pool)
    if not name.startswith("rdb7"):
        assert all(has_labels(atoms) for atoms in frames.pool)
        assert max(abs(float(atoms.info[ENERGY_KEY])) for atoms in frames.test) < 1000.0


@pytest.mark.parametrize("name", ["sn2-mp2", "rdb7-paths", "rdb7-biased"])
def test_pool_and_test_are_of_different_reactions(build: Build, name: str) -> None:
    frames = build(name)
    assert not {a.info["reaction"] for a in frames.pool} & {a.info["reaction"] for a in frames.test}


def test_trajectories_are_cut_in_time(build: Build) -> None:
    frames = build("h2-combustion")
    late = [a for a in frames.test if str(a.info["config_type"]).endswith("-late")]
    assert len(late) == 6
    for atoms in late:
        key = (atoms.info["reaction"], str(atoms.info["config_type"]).removesuffix("-late"))
        before = [
            int(a.info["frame"]) for a in frames.pool if (a.info["reaction"], a.info["config_type"]) == key
        ]
        assert max(before) < int(atoms.info["frame"])


def test_temperatures_are_apart_and_the_transfer_has_energies_only(build: Build) -> None:
    frames = build("acetylacetone")
    assert {str(a.info["config_type"]) for a in frames.pool} <= {"train_300K", "test_MD_300K"}
    transfer = [a for a in frames.test if a.info["config_type"] == "test_H_transfer"]
    assert len(transfer) == 13  # of 15: the ends make the targets
    assert not any(has_labels(atoms) for atoms in transfer)


def test_shares_of_a_pool_of_reactions(build: Build) -> None:
    frames = build("rdb7-paths")
    kinds = [str(a.info["config_type"]) for a in frames.pool]
    assert len(kinds) == 20
    assert kinds.count("path") == 4


def test_whole_numbers_follow_a_share() -> None:
    assert whole_shares(0.5, 5) == [1, 0, 1, 0, 1]
    assert sum(whole_shares(0.3, 10)) == 3


def test_families_of_the_biased_pool_are_not_in_half_of_the_test(build: Build) -> None:
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


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_the_committed_grids_were_run_on_these_frames(name: str, tmp_path: Path) -> None:
    """Pool, start and test by content: the records are older than the importers."""
    data_file(SMALL[name][0])
    assert write_task(name, DATA, tmp_path) == json.loads(KNOWN.read_text())[name]
    spec = load_benchmark(BENCHMARKS / "tasks.yaml").tasks[name]
    own = {key: path for key, path in spec if isinstance(path, Path)}
    spec = spec.model_copy(update={key: tmp_path / path.name for key, path in own.items()})
    prepare(name, spec, tmp_path / "cache")
    task = read_task(name, spec, tmp_path / "cache")
    pool = set(task.ids["pool"])
    starts = {seed: list(first_labelled(task, seed)) for seed in range(10)}
    runs = [run for run in read_runs(BENCHMARKS / "results" / "grid") if run["task"] == name]
    assert len(runs) >= 170
    for run in runs:
        assert run["picks"][0] == starts[run["seed"]]
        assert pool.issuperset(pick for batch in run["picks"] for pick in batch)
        if run["frames"]:
            assert len(run["frames"]["energy"]) == len(task.test)
            assert [each is None for each in run["frames"]["force"]] == [not has_labels(a) for a in task.test]


def test_every_task_of_the_grids_is_one_that_the_importers_write() -> None:
    known = json.loads(KNOWN.read_text())
    for grid in ("tasks.yaml", "ablations.yaml"):
        for task in load_benchmark(BENCHMARKS / grid).tasks.values():
            for part in ("pool", "test", "target", "latent"):
                if (path := getattr(task, part)) is not None:
                    assert path.parent == BENCHMARKS / "data"
                    name = path.name.removesuffix(f".{part}.extxyz")
                    assert known[name][part]["frames"] > 0
