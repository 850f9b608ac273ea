"""Features on disk: resumed byte for byte, never mixed."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from conftest import rattled
from surveyor.errors import FeatureError
from surveyor.features import Activations, ForceTangent, Tangent
from surveyor.features.embedding import embed
from surveyor.features.rows import divided, part_of
from surveyor.features.scaling import unit_mean_square
from surveyor.features.store import StoredRows, joined, open_store
from surveyor.posterior import Posterior
from surveyor.potentials.mace import MacePotential
from surveyor.selection import LCMD, FarthestPoint, MaxVariance, Random, TargetVariance, TopK
from surveyor.structures import structure_id
from surveyor.types import Features
from tiny import tiny_mace


class Composition:
    """A feature map that costs nothing: counts of H, C, N, O, once or in two rows."""

    dim = 4

    def __init__(self, rows: int = 1, pause: float = 0.0) -> None:
        self.rows = rows
        self.pause = pause
        self.settings = {"features": "composition", "rows": rows}

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        time.sleep(self.pause)
        counts = [[float((atoms.numbers == z).sum()) for z in (1, 6, 7, 8)] for atoms in structures]
        return Features(
            np.repeat(np.array(counts), self.rows, axis=0),
            np.repeat(np.arange(len(structures)), self.rows),
            len(structures),
        )


def digest(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("rows", [1, 2])
def test_store_gives_back_what_the_feature_map_gives(tmp_path: Path, rows: int) -> None:
    structures = rattled(23, seed=1)
    seen: list[int] = []
    store = embed(iter(structures), Composition(rows), tmp_path / "s.zarr", block=5, on_progress=seen.append)
    assert seen == [5, 10, 15, 20, 23]
    wanted = Composition(rows)(structures)
    found = open_store(tmp_path / "s.zarr").features()
    np.testing.assert_array_equal(found.values, wanted.values)
    np.testing.assert_array_equal(found.owner, wanted.owner)
    assert len(store) == 23
    assert store.complete
    assert store.ids == [structure_id(atoms) for atoms in structures]
    assert [len(block) for block in store.blocks()] == [5, 5, 5, 5, 3]
    assert "23 structures × 4" in repr(store)


@pytest.mark.parametrize("rows", [1, 2])
def test_rows_on_disk_are_read_like_rows_in_memory(tmp_path: Path, rows: int) -> None:
    store = embed(rattled(23, seed=1), Composition(rows), tmp_path / "s.zarr", block=5)
    memory, disk = store.features(), store.features(in_memory=False)
    assert not isinstance(disk.values, np.ndarray)
    assert store.n_bytes == memory.values.nbytes
    np.testing.assert_array_equal(disk.owner, memory.owner)
    for key in (slice(0, 7), slice(3, None), slice(40, 50), np.array([0, 9, 4, 22])):
        np.testing.assert_array_equal(disk.values[key], memory.values[key])
    kept = np.array([1, 2, 7, 8, 21])
    part, scaled = part_of(disk, kept), unit_mean_square(part_of(disk, kept))[0]
    np.testing.assert_array_equal(part.values[:], memory.take(kept).values)
    np.testing.assert_array_equal(part.owner, memory.take(kept).owner)
    np.testing.assert_allclose(scaled.values[:], unit_mean_square(memory.take(kept))[0].values)
    assert (scaled.values[:] ** 2).sum(axis=1).mean() == pytest.approx(1)
    posteriors = [Posterior.fit(features, noise=0.1).variance(memory.values) for features in (memory, disk)]
    np.testing.assert_allclose(*posteriors)
    train = memory.take([0])
    for rule in (MaxVariance(), FarthestPoint(), LCMD(), TopK(), TargetVariance(sample=5), Random()):
        picks = [
            rule(pool, train, 6, rng=np.random.default_rng(0)).indices.tolist() for pool in (memory, disk)
        ]
        assert picks[0] == picks[1]


class Counting:
    """A block of rows that counts how often it is read whole, as zarr decompresses it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.reads = 0

    def __getitem__(self, key: slice) -> np.ndarray:
        self.reads += 1
        return self.values[key]


def on_disk(rows: np.ndarray, cuts: list[int]) -> tuple[Features, list[Counting]]:
    blocks = [Counting(part) for part in np.split(rows, cuts)]
    return Features(StoredRows(blocks), np.arange(len(rows)), len(rows), finite=True), blocks  # type: ignore[arg-type]


def test_the_default_rule_reads_a_block_less_than_once_a_pick() -> None:
    """Blocks are longer than what is worked on at a time; a pick that was not foreseen costs another pass."""
    rows = np.random.default_rng(0).normal(size=(5000, 6)).astype(np.float32)
    stored, blocks = on_disk(rows, [2048, 4096])
    pool = part_of(stored, np.delete(np.arange(5000), [3, 2500]))
    reads = {}
    for k in (1, 7, 30):
        for block in blocks:
            block.reads = 0
        TargetVariance(sample=5)(pool, Features.empty(6), k, rng=np.random.default_rng(0))
        reads[k] = sum(block.reads for block in blocks)
    assert reads[7] - reads[1] <= 2 * 6 * (len(blocks) + 1)
    assert reads[30] - reads[1] < 29 * len(blocks)


def test_rows_that_were_scanned_are_not_read_again() -> None:
    stored, blocks = on_disk(np.random.default_rng(0).normal(size=(50, 6)), [20, 40])
    part = part_of(stored, np.arange(1, 49))
    divided(part, 2.0)
    assert sum(block.reads for block in blocks) == 0
    assert len(part.take([0, 30])) == 2
    assert sum(block.reads for block in blocks) == 2  # of the first two, for the rows themselves
    with pytest.raises(FeatureError, match="row 7"):
        Features.one_row_each(np.where(np.arange(50)[:, None] == 7, np.nan, stored.values[:]))


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty"])
def test_damage_is_seen_before_it_is_believed(tmp_path: Path, damage: str) -> None:
    whole = embed(rattled(7, seed=1), Composition(2), tmp_path / "s.zarr", block=4).features()
    files = [file for file in sorted((tmp_path / "s.zarr").rglob("*")) if file.is_file()]
    refused = []
    for file in files:
        content = bytearray(file.read_bytes())
        half = len(content) // 2
        changed = {"cut": content[:half], "empty": b"", "flipped": bytearray(content)}
        changed["flipped"][half] ^= 4  # type: ignore[index]
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(changed[damage])
        try:
            found = open_store(tmp_path / "s.zarr").features()
        except FeatureError:
            refused.append(file)
        else:
            if len(found) == 7:  # a block that went is one that is not there yet
                np.testing.assert_array_equal(found.values, whole.values)
        file.write_bytes(content)
    assert {file for file in files if "c" in file.parts} <= set(refused)


def test_parts_of_a_pool_in_memory_and_on_disk_are_one(tmp_path: Path) -> None:
    stores = [embed(rattled(n, seed=n), Composition(2), tmp_path / f"{n}.zarr", block=4) for n in (5, 9, 2)]
    memory = joined([store.features() for store in stores])
    mixed = joined([store.features(in_memory=number != 1) for number, store in enumerate(stores)])
    assert isinstance(memory.values, np.ndarray)
    assert isinstance(mixed.values, StoredRows)
    np.testing.assert_array_equal(mixed.values[:], memory.values)
    np.testing.assert_array_equal(mixed.owner, memory.owner)


def test_a_row_that_overflows_as_it_is_written_is_refused(tmp_path: Path) -> None:
    class Huge(Composition):
        def __call__(self, structures: Sequence[Atoms]) -> Features:
            found = super().__call__(structures)
            return Features(found.values * 1e300, found.owner, found.n_structures)

    with pytest.raises(FeatureError, match="row 0"):
        embed(rattled(3, seed=1), Huge(), tmp_path / "s.zarr")


def test_real_features_do_not_depend_on_the_blocks(tmp_path: Path, potential: MacePotential) -> None:
    structures = rattled(9, seed=1)
    for feature_map in (Tangent(potential, dim=16), ForceTangent(potential, 2, 16), Activations(potential)):
        name = str(feature_map.settings["features"])
        found = embed(structures, feature_map, tmp_path / name, block=4).features()
        wanted = feature_map(structures)
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(found.owner, wanted.owner)


def test_a_complete_store_is_not_computed_again(tmp_path: Path) -> None:
    structures = rattled(7, seed=1)
    embed(structures, Composition(), tmp_path / "s", block=3)
    before = digest(tmp_path / "s")

    class Untouchable(Composition):
        def __call__(self, structures: Sequence[Atoms]) -> Features:
            raise AssertionError("computed again")

    embed(structures, Untouchable(), tmp_path / "s", block=3)
    assert digest(tmp_path / "s") == before


def test_stopped_in_the_middle_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    structures = rattled(17, seed=2)
    embed(structures, Composition(), tmp_path / "whole", block=4)

    def breaks_off(at: int) -> Iterator[Atoms]:
        for number, atoms in enumerate(structures):
            if number == at:
                raise KeyboardInterrupt
            yield atoms

    for at in (2, 9, 14):
        with pytest.raises(KeyboardInterrupt):
            embed(breaks_off(at), Composition(), tmp_path / "parts", block=4)
        assert not open_store(tmp_path / "parts").complete
    embed(structures, Composition(), tmp_path / "parts", block=4)
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_at_random_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    structures = rattled(40, seed=3)
    embed(structures, Composition(2), tmp_path / "whole", block=2)
    rng = np.random.default_rng(4)
    blocks = tmp_path / "parts" / "blocks"
    for _ in range(3):
        before = len(list(blocks.glob("0*"))) if blocks.exists() else 0
        child = os.fork()
        if child == 0:
            embed(structures, Composition(2, pause=0.02), tmp_path / "parts", block=2)
            os._exit(0)
        deadline = time.monotonic() + 20
        wanted = before + int(rng.integers(1, 4))
        while time.monotonic() < deadline:
            if blocks.exists() and len(list(blocks.glob("0*"))) >= wanted:
                break
            time.sleep(0.003)
        time.sleep(float(rng.uniform(0, 0.03)))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert len(list(blocks.glob("0*"))) >= wanted
    assert not open_store(tmp_path / "parts").complete
    embed(structures, Composition(2), tmp_path / "parts", block=2)
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def test_a_killed_block_is_cleared_away(tmp_path: Path) -> None:
    structures = rattled(6, seed=2)
    embed(structures, Composition(), tmp_path / "whole", block=4)
    embed(structures, Composition(), tmp_path / "parts", block=4)
    (tmp_path / "parts" / "blocks" / "000001").rename(tmp_path / "parts" / "blocks" / ".000001.partial")
    (tmp_path / "parts" / "complete" / "zarr.json").unlink()
    (tmp_path / "parts" / "complete").rmdir()
    embed(structures, Composition(), tmp_path / "parts", block=4)
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def test_another_potential_is_refused(tmp_path: Path, potential: MacePotential) -> None:
    structures = rattled(3, seed=1)
    embed(structures, Activations(potential), tmp_path / "s")
    with pytest.raises(FeatureError, match="made with potential"):
        embed(structures, Activations(tiny_mace(seed=1)), tmp_path / "s")
    with pytest.raises(FeatureError, match="made with pool mean, now asked with sum"):
        embed(structures, Activations(potential, pool="sum"), tmp_path / "s")
    with pytest.raises(FeatureError, match="made with block 2048"):
        embed(structures, Activations(potential), tmp_path / "s", block=7)


def test_other_structures_are_refused(tmp_path: Path) -> None:
    structures = rattled(9, seed=1)
    embed(structures, Composition(), tmp_path / "s", block=3)
    for others, message in (
        ([*structures[:4], *structures[5:]], "another structure at position 4"),
        (structures[:6], "6 structures; 9 are embedded"),
        ([*structures, *rattled(1, seed=9)], "more structures than the 9"),
    ):
        with pytest.raises(FeatureError, match=message):
            embed(others, Composition(), tmp_path / "s", block=3)


def test_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="no feature store"):
        open_store(tmp_path / "nothing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(FeatureError, match="not empty and no feature store"):
        embed(rattled(1, seed=1), Composition(), tmp_path / "full")
    with pytest.raises(FeatureError, match="one structure a block"):
        embed(rattled(1, seed=1), Composition(), tmp_path / "s", block=0)


def test_no_structures_at_all(tmp_path: Path) -> None:
    store = embed([], Composition(), tmp_path / "s")
    assert store.complete
    assert store.features().values.shape == (0, 4)
