"""The embedded example keeps its promises: small, unlabelled where it should be, and truly GFN2-xTB."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from tblite.ase import TBLite

FOLDER = Path(__file__).parents[1] / "examples" / "reactions"
LABELLED = ("start.extxyz", "test.extxyz.gz")
UNLABELLED = ("pool.extxyz.gz", "targets.extxyz")


def frames(name: str) -> list[Atoms]:
    """Read one of the files; decompressed first, because ASE seeks back and forth in its stream."""
    data = (FOLDER / name).read_bytes()
    text = gzip.decompress(data) if name.endswith(".gz") else data
    return read(io.StringIO(text.decode()), index=":", format="extxyz")


@pytest.fixture(scope="module")
def data() -> dict[str, list[Atoms]]:
    return {name: frames(name) for name in LABELLED + UNLABELLED}


def fingerprint(atoms: Atoms) -> tuple[object, ...]:
    """Identify a geometry by its distances, so that moving or turning it would not hide a copy."""
    distances = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
    return (atoms.info["reaction"], *np.round(distances, 3).tolist())


def test_all_files_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.extxyz*")) <= 1_000_000


@pytest.mark.parametrize("name", UNLABELLED)
def test_pool_and_targets_have_no_labels(data: dict[str, list[Atoms]], name: str) -> None:
    for atoms in data[name]:
        assert atoms.calc is None
        assert set(atoms.info) == {"reaction", "config_type", "total_charge", "total_spin"}
        assert set(atoms.arrays) == {"numbers", "positions"}


def test_every_file_covers_the_same_reactions(data: dict[str, list[Atoms]]) -> None:
    reactions = {atoms.info["reaction"] for atoms in data["pool.extxyz.gz"]}
    assert len(reactions) >= 4
    for name, loaded in data.items():
        assert {atoms.info["reaction"] for atoms in loaded} == reactions, name


def test_pool_lies_mostly_near_the_minima(data: dict[str, list[Atoms]]) -> None:
    for reaction in {atoms.info["reaction"] for atoms in data["pool.extxyz.gz"]}:
        kinds = [a.info["config_type"] for a in data["pool.extxyz.gz"] if a.info["reaction"] == reaction]
        counts = Counter(kinds)
        assert set(counts) == {"reactant", "product", "path"}
        assert 0 < counts["path"] <= 0.2 * len(kinds)


def test_atoms_of_a_reaction_keep_their_order_and_distance(data: dict[str, list[Atoms]]) -> None:
    order: dict[str, list[int]] = {}
    for atoms in (atoms for loaded in data.values() for atoms in loaded):
        numbers = atoms.numbers.tolist()
        assert order.setdefault(atoms.info["reaction"], numbers) == numbers
        assert atoms.get_all_distances()[np.triu_indices(len(atoms), 1)].min() > 0.5


def test_no_test_frame_is_in_the_pool(data: dict[str, list[Atoms]]) -> None:
    pool = [fingerprint(atoms) for atoms in data["pool.extxyz.gz"]]
    held_out = [fingerprint(atoms) for atoms in data["test.extxyz.gz"]]
    assert len(set(pool)) == len(pool)
    assert len(set(held_out)) == len(held_out)
    assert not set(pool) & set(held_out)


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_those_of_gfn2(data: dict[str, list[Atoms]], name: str) -> None:
    for index in np.random.default_rng(0).choice(len(data[name]), size=3, replace=False):
        stored = data[name][index]
        atoms = Atoms(stored.numbers, positions=stored.positions)
        spin, charge = stored.info["total_spin"], stored.info["total_charge"]
        atoms.calc = TBLite(method="GFN2-xTB", charge=int(charge), multiplicity=int(spin), verbosity=0)
        assert atoms.get_potential_energy() == pytest.approx(stored.info["REF_energy"], abs=1e-4)
        np.testing.assert_allclose(atoms.get_forces(), stored.arrays["REF_forces"], atol=1e-3, rtol=0)


def test_every_barrier_lies_inside_its_path(data: dict[str, list[Atoms]]) -> None:
    """The highest test frame is neither the first nor the last, and above both relaxed ends."""
    for reaction in {atoms.info["reaction"] for atoms in data["start.extxyz"]}:
        energies = {
            name: [a.info["REF_energy"] for a in data[name] if a.info["reaction"] == reaction]
            for name in LABELLED
        }
        path = energies["test.extxyz.gz"]
        assert max(path) > max(energies["start.extxyz"])
        assert 0 < int(np.argmax(path)) < len(path) - 1
