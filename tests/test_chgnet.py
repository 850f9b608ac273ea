"""The family of CHGNet, with the weights that its package ships."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

import surveyor
from conftest import emt_labelled
from molecules import rattled
from surveyor.errors import PotentialError
from surveyor.features import Activations, Tangent
from surveyor.metrics import errors
from surveyor.potentials.graphs import build_graph
from surveyor.potentials.parameters import parameter_names
from surveyor.potentials.plan import gradient_plan
from surveyor.structures import write_structures
from surveyor.testing import check_potential
from surveyor.training.command import CommandTrainer, TrainingProgram
from surveyor.types import Potential
from test_families import WITHOUT_MACE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    chgnet_model = pytest.importorskip("chgnet.model")
    from chgnet.graph import CrystalGraphConverter
    from pymatgen.io.ase import AseAtomsAdaptor

from surveyor.potentials.chgnet.graph import Bonds
from surveyor.potentials.chgnet.potential import ChgnetPotential

# Inside chgnet's own forward pass.
CHGNETS_OWN = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")


def opened(dtype: str = "float64") -> ChgnetPotential:
    found = surveyor.open_potential("chgnet:0.3.0", "cpu", dtype)
    assert isinstance(found, ChgnetPotential)
    return found


@pytest.fixture(scope="module")
def potential() -> ChgnetPotential:
    return opened()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def some() -> list[Atoms]:
    salt, ethanol = bulk("NaCl", "rocksalt", 5.6), molecule("CH3OH")
    apart = Atoms("O2", [[0, 0, 0], [0, 0, 4.5]])  # a pair without an angle
    found = [molecule("H2O"), salt, ethanol, Atoms("O"), apart]
    for atoms in found:
        atoms.rattle(0.05, seed=3)
    return found


def test_the_contract_is_kept(potential: ChgnetPotential) -> None:
    done = check_potential(potential, some())
    assert {"tangents", "layers", "shifts", "sums_of_atoms", "slopes", "files"} < set(done)


def test_every_parameter_has_a_rule_and_the_bases_are_none(potential: ChgnetPotential) -> None:
    names = parameter_names(potential.model)
    assert gradient_plan(potential, names).rest == ()
    assert not [name for name in names if "frequencies" in name or "composition" in name]


@CHGNETS_OWN
@pytest.mark.parametrize("name", ["crystal", "one atom a cell", "molecule", "slab"])
def test_predictions_are_those_of_chgnet(potential: ChgnetPotential, name: str) -> None:
    own = {
        "crystal": bulk("NaCl", "rocksalt", 5.6, cubic=True),
        "one atom a cell": bulk("Fe"),
        "molecule": molecule("CH3CH2OH"),
        "slab": bulk("Si", cubic=True),
    }[name]
    own.set_initial_magnetic_moments(None)
    own.rattle(0.1, seed=2)
    boxed = own.copy()
    if name == "molecule":
        boxed.center(vacuum=8)
    if name == "slab":
        own.pbc = (True, True, False)
        boxed.cell[2, 2] += 15
    boxed.pbc = True
    model = chgnet_model.CHGNet.load(use_device="cpu", verbose=False)
    wanted = model.predict_structure(AseAtomsAdaptor.get_structure(boxed), task="ef")
    (found,) = opened("float32").predict([own])
    assert found.energy == pytest.approx(float(wanted["e"]) * len(own), abs=1e-4)
    np.testing.assert_allclose(found.forces, wanted["f"], atol=1e-4)


def test_bonds_and_angles_are_those_of_chgnet() -> None:
    atoms = bulk("NaCl", "rocksalt", 5.6)
    atoms.rattle(0.05, seed=1)
    wanted = CrystalGraphConverter()(AseAtomsAdaptor.get_structure(atoms))
    found = Bonds.of(build_graph([atoms], 6.0), 3.0)
    assert len(found.edges) == len(wanted.atom_graph)
    assert len(found.first) == len(wanted.undirected2directed)
    assert found.angles.shape[1] == len(wanted.bond_graph)
    assert (np.bincount(found.of_edge) == 2).all()


@CHGNETS_OWN
def test_a_file_of_chgnet_opens_and_chgnet_opens_ours(potential: ChgnetPotential, tmp_path: Path) -> None:
    moved = opened("float32").with_reference_shifts({8: -2000.0, 1: 3.0})
    moved.save(tmp_path / "moved.pth.tar")
    model = chgnet_model.CHGNet.from_file(str(tmp_path / "moved.pth.tar"))
    atoms = molecule("H2O")
    box = atoms.copy()
    box.center(vacuum=8)
    box.pbc = True
    wanted = 3 * float(model.predict_structure(AseAtomsAdaptor.get_structure(box), task="e")["e"])
    assert moved.predict([atoms])[0].energy == pytest.approx(wanted, abs=2e-3)
    assert wanted == pytest.approx(potential.predict([atoms])[0].energy - 1994.0, abs=2e-3)
    (tmp_path / "odd.pth.tar").write_bytes(b"nothing")
    with pytest.raises(PotentialError, match="is no CHGNet"):
        surveyor.open_potential(tmp_path / "odd.pth.tar")


def test_random_weights_are_others_of_the_same_shape(potential: ChgnetPotential) -> None:
    one, same, other = (potential.with_random_weights(seed) for seed in (1, 1, 2))
    assert one.fingerprint == same.fingerprint
    assert len({potential.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert Tangent(one, dim=None)([molecule("H2O")]).values.shape[1] == Tangent(potential, dim=None).dim
    torch.testing.assert_close(one.references, potential.references)
    assert Activations(one)([molecule("H2O")]).values.std() > 0


def test_it_selects_where_neither_mace_nor_e3nn_can_be_imported(tmp_path: Path) -> None:
    pool = write_structures(tmp_path / "pool.extxyz", rattled(10, seed=1))
    select = [sys.executable, "-c", WITHOUT_MACE, "select", str(pool), "--model", "chgnet:0.3.0", "-n", "3"]
    done = subprocess.run([*select, "--dim", "32", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(set(json.loads(done.stdout)["indices"])) == 3


@pytest.mark.slow
def test_the_example_of_a_training_moves_the_weights_and_lowers_the_error(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "examples" / "chgnet" / "train.py"
    files = [
        part for name in ("start", "train", "valid", "output") for part in (f"--{name}", f"{{{{ {name} }}}}")
    ]
    command = [
        sys.executable,
        str(script),
        *files,
        "--seed",
        "{{ seed }}",
        "--epochs",
        "3",
        "--batch-size",
        "2",
    ]
    frames = emt_labelled(rattled(6, seed=5, names=("H2O", "CH4")))
    start: Potential = opened("float32")
    trainer = CommandTrainer(TrainingProgram(command=command), start, device="cpu")
    tuned = trainer(start, frames, frames[:2], seed=1, workdir=tmp_path / "training")
    assert isinstance(tuned, ChgnetPotential)
    assert tuned.fingerprint != start.fingerprint
    assert errors(tuned, frames).force_mae < errors(start, frames).force_mae
