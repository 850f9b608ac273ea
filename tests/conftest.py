"""Fixtures: a tiny potential on disk, a small pool, a small labelled set."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT

from molecules import rattled
from surveyor.errors import said
from surveyor.potentials.mace import MacePotential
from surveyor.structures import with_labels, write_structures
from surveyor.types import Labels
from tiny import tiny_mace

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def notices_are_news() -> None:
    """A notice is shown once a process; every test is to see its own."""
    said.clear()


DATA = Path(__file__).parents[2] / "shared" / "data"


def emt_labelled(structures: list[Atoms]) -> list[Atoms]:
    """The same structures with EMT energies and forces."""
    labelled = []
    for atoms in structures:
        trial = atoms.copy()
        trial.calc = EMT()
        labelled.append(with_labels(atoms, Labels(trial.get_potential_energy(), trial.get_forces())))
    return labelled


@pytest.fixture(scope="session")
def potential() -> MacePotential:
    return tiny_mace(dtype="float32")


@pytest.fixture(scope="session")
def model_file(potential: MacePotential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.model"
    potential.save(path)
    return path


@pytest.fixture
def pool_file(tmp_path: Path) -> Path:
    return write_structures(tmp_path / "pool.extxyz", rattled(40, seed=1))


@pytest.fixture
def labelled_file(tmp_path: Path) -> Path:
    return write_structures(tmp_path / "labelled.extxyz", emt_labelled(rattled(8, seed=2)))


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    return write_structures(tmp_path / "test.extxyz", emt_labelled(rattled(12, seed=3)))


def data_file(name: str) -> Path:
    """A benchmark file, or a skip with the reason."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"benchmark data {name} is not beside this checkout")
    return path
