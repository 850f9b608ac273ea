"""Structures at the border: reading, ids, validation, labels, writing, splits."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import data_file, emt_labelled, rattled
from surveyor.errors import StructureError, SurveyorError
from surveyor.structures import (
    StructureFile,
    atomic_write,
    check_elements,
    count_structures,
    labels_of,
    read_structures,
    structure_id,
    validate,
    with_labels,
    without_labels,
    write_structures,
)
from surveyor.structures.writing import write_error
from surveyor.types import Labels

OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".bz2"])
def test_reads_what_was_written_compressed_or_not(tmp_path: Path, suffix: str) -> None:
    frames = emt_labelled(rattled(150, seed=0))
    path = write_structures(tmp_path / "a.extxyz", frames)
    if suffix:
        packed = tmp_path / f"a.extxyz{suffix}"
        with OPENERS[suffix](packed, "wb") as file:
            file.write(path.read_bytes())
        path = packed
    read = list(read_structures(path))
    assert [structure_id(atoms) for atoms in read] == [structure_id(atoms) for atoms in frames]
    assert count_structures(path) == 150
    for a, b in zip(read, frames, strict=True):
        assert labels_of(a).energy == labels_of(b).energy
        np.testing.assert_allclose(labels_of(a).forces, labels_of(b).forces, atol=1e-8)


def test_reads_other_formats_compressed(tmp_path: Path) -> None:
    frames = rattled(3, seed=0)
    ase.io.write(tmp_path / "a.traj", frames)
    (tmp_path / "a.traj.gz").write_bytes(gzip.compress((tmp_path / "a.traj").read_bytes()))
    for path in (tmp_path / "a.traj", tmp_path / "a.traj.gz"):
        assert [structure_id(a) for a in read_structures(path)] == [structure_id(a) for a in frames]


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "a.extxyz", rattled(200, seed=0))
    with path.open("a") as file:
        file.write("this is no frame\n")
    stream = read_structures(path)
    assert len([next(stream) for _ in range(128)]) == 128
    with pytest.raises(StructureError, match=r"frame 200: begins with 'this is no frame'"):
        list(stream)


@pytest.mark.slow
def test_a_compressed_pool_costs_at_most_twice_the_plain_one(tmp_path: Path) -> None:
    plain = data_file("h2-combustion-pool.extxyz")
    packed = tmp_path / "pool.extxyz.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes(), 6))
    seconds = []
    for path in (plain, packed):
        begin = time.process_time()
        assert sum(1 for _ in read_structures(path)) == 15000
        seconds.append(time.process_time() - begin)
    assert seconds[1] < 2 * seconds[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no structure"),
        ("3\n\nH 0 0 0\nH 0 0 1\n", "frame 0: ends after 2 of 3 atoms"),
        ("2\n\nH 0 0 0\nH 0 0 nan\n", r"frame 0: the position of atom 1 is"),
        ("2\n\nH 0 0 0\nH 0 0 0.1\n", r"atoms 0 \(H\) and 1 \(H\) are 0.100 Å apart"),
        ("2\n\nH 0 0 0\nH 0 0 oops\n", "frame 0"),
        ("1\n\nQq 0 0 0\n", "frame 0"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.extxyz"
    path.write_text(content)
    with pytest.raises(StructureError, match=message):
        list(read_structures(path))


def test_missing_folder_and_damaged_archives(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="no such file"):
        read_structures(tmp_path / "nothing.extxyz")
    with pytest.raises(StructureError, match="is a folder"):
        read_structures(tmp_path)
    packed = tmp_path / "a.extxyz.gz"
    content = write_structures(tmp_path / "a.extxyz", rattled(300, seed=0)).read_bytes()
    packed.write_bytes(gzip.compress(content)[:-200])
    with pytest.raises(StructureError, match="damaged or cut short"):
        list(read_structures(packed))
    (tmp_path / "b.gz").write_bytes(b"not gzip")
    with pytest.raises(StructureError, match="damaged"):
        list(read_structures(tmp_path / "b.gz"))
    (tmp_path / "c.dat").write_text("hello\n")
    with pytest.raises(StructureError):
        list(read_structures(tmp_path / "c.dat"))


def test_a_structure_file_can_be_gone_through_twice(tmp_path: Path) -> None:
    source = StructureFile(write_structures(tmp_path / "a.extxyz", rattled(5, seed=0)), (1, 6, 8, 7))
    assert [structure_id(a) for a in source] == [structure_id(a) for a in source]
    assert source.count() == 5
    with pytest.raises(StructureError, match=r"a.extxyz, frame 0: element O is unknown"):
        list(StructureFile(source.path, (1, 6)))


positions = st.lists(st.tuples(*[st.floats(-50, 50, allow_nan=False)] * 3), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(positions)
def test_ids_survive_a_trip_through_a_file(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    atoms = Atoms("H" * len(rows), rows)
    path = write_structures(tmp_path_factory.mktemp("ids") / "a.extxyz", [atoms])
    assert structure_id(next(read_structures(path, check=False))) == structure_id(atoms)


def test_ids_at_the_edge_of_rounding(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    halves = (rng.integers(-(10**7), 10**7, (2000, 3)) + 0.5) * 1e-6 + rng.normal(0, 6e-9, (2000, 3))
    frames = [Atoms("H", [row]) for row in halves]
    read = read_structures(write_structures(tmp_path / "a.extxyz", frames))
    assert [structure_id(a) for a in frames] == [structure_id(a) for a in read]


def test_ids_tell_structures_apart_and_ignore_the_rest() -> None:
    water = molecule("H2O")
    same = water.copy()
    same.info["name"] = "x"
    same.info["REF_energy"] = 1.0
    same.set_cell(np.eye(3))  # counts along periodic directions only
    assert structure_id(same) == structure_id(water)
    others = [water.copy() for _ in range(5)]
    others[0].positions[0, 0] += 2e-6
    others[1].info["total_charge"] = -1
    others[2].info["total_spin"] = 3
    others[3] = water[[0, 2, 1]]
    others[4].set_cell([9, 9, 9])
    others[4].pbc = True
    assert len({structure_id(a) for a in [water, *others]}) == 6


def test_validation_of_periodic_structures() -> None:
    validate(bulk("Si"))
    close = Atoms("H2", [[0, 0, 0.05], [0, 0, 3.95]], cell=[4, 4, 4], pbc=True)
    with pytest.raises(StructureError, match=r"0.100 Å apart"):
        validate(close)
    with pytest.raises(StructureError, match="without a cell vector"):
        validate(Atoms("H", pbc=True))
    with pytest.raises(StructureError, match="without atoms"):
        validate(Atoms())
    with pytest.raises(StructureError, match="cell holds NaN"):
        validate(Atoms("H", cell=[np.nan, 1, 1], pbc=False))


def test_unknown_elements_are_named() -> None:
    with pytest.raises(StructureError, match="element Xe is unknown"):
        check_elements(Atoms("HXe", [[0, 0, 0], [0, 0, 3]]), (1, 6))


def test_labels_round_trip_and_bad_labels() -> None:
    water = molecule("H2O")
    labels = Labels(-1.5, np.arange(9.0).reshape(3, 3), np.arange(6.0))
    labelled = with_labels(water, labels)
    found = labels_of(labelled)
    assert found.energy == labels.energy
    np.testing.assert_array_equal(found.forces, labels.forces)
    np.testing.assert_array_equal(found.stress, labels.stress)
    assert "REF_energy" not in without_labels(labelled).info
    with pytest.raises(StructureError, match=r"no REF_energy"):
        labels_of(water)
    labelled.info["REF_energy"] = np.inf
    with pytest.raises(StructureError, match="NaN or inf"):
        labels_of(labelled)
    labelled.info |= {"REF_energy": 0.0, "REF_stress": np.diag([1.0, 2.0, 3.0]).ravel()}
    np.testing.assert_array_equal(labels_of(labelled).stress, [1, 2, 3, 0, 0, 0])


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write(path, lambda file: file.write("old"))

    def fail(file: object) -> None:
        file.write("half")  # type: ignore[attr-defined]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StructureError, match=r"ends in \.extxyz"):
        write_structures(tmp_path / "a.cif", rattled(1, 0))


def test_a_full_disk_is_an_error_that_says_so() -> None:
    error = write_error(Path("x"), OSError(28, "No space left on device"))
    assert isinstance(error, SurveyorError)
    assert "the disk is full: could not write x" in str(error)
