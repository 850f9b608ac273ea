"""The family of SchNetPack's PaiNN, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

import surveyor
from surveyor.errors import PotentialError
from surveyor.features import Activations
from surveyor.potentials.parameters import parameter_names
from surveyor.potentials.plan import gradient_plan
from surveyor.testing import check_potential

pytest.importorskip("fasteners", reason="of schnetpack")
pytest.importorskip("pytorch_lightning")

from painn import painn_file
from surveyor.potentials.schnetpack.importing import schnetpack
from surveyor.potentials.schnetpack.potential import SchnetpackPotential


def opened(path: Path, dtype: str = "float64") -> SchnetpackPotential:
    found = surveyor.open_potential(f"schnetpack:{path}", "cpu", dtype)
    assert isinstance(found, SchnetpackPotential)
    return found


@pytest.fixture
def potential(tmp_path: Path) -> SchnetpackPotential:
    return opened(painn_file(tmp_path / "best_model", stress=True))


def some() -> list[Atoms]:
    salt = bulk("NaCl", "rocksalt", 5.6)
    found = [molecule("H2O"), salt, molecule("CH3OH"), Atoms("O")]
    for atoms in found:
        atoms.rattle(0.05, seed=3)
    return found


def test_the_contract_is_kept(potential: SchnetpackPotential) -> None:
    done = check_potential(potential, some())
    assert {"tangents", "layers", "shifts", "slopes", "files"} < set(done)


def test_every_parameter_has_a_rule_and_the_basis_is_none(potential: SchnetpackPotential) -> None:
    names = parameter_names(potential.model)
    assert gradient_plan(potential, names).rest == ()
    assert not [name for name in names if "radial_basis" in name]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside schnetpack
def test_predictions_are_those_of_schnetpack(tmp_path: Path) -> None:
    path = painn_file(tmp_path / "best_model", references=True)
    potential = opened(path, "float32")
    assert potential.elements == (1, 6, 8)
    model = torch.load(path, weights_only=False).eval()
    converter = schnetpack.interfaces.AtomsConverter(
        schnetpack.transform.ASENeighborList(cutoff=4.0), device="cpu", dtype=torch.float32
    )
    atoms = molecule("CH3OH")
    wanted = model(converter(atoms))
    (found,) = potential.predict([atoms])
    assert found.energy == pytest.approx(float(wanted["U"].detach()), abs=1e-3)
    np.testing.assert_allclose(found.forces, wanted["forces"].detach(), atol=1e-5)


def test_shifts_stay_in_the_file_and_leave_the_elements(
    potential: SchnetpackPotential, tmp_path: Path
) -> None:
    moved = potential.with_reference_shifts({8: -2000.0}).with_reference_shifts({8: 1.0, 1: 2.0})
    assert moved.elements == potential.elements
    moved.save(tmp_path / "moved.spk")
    again = surveyor.open_potential(tmp_path / "moved.spk", "cpu")
    assert again.elements == potential.elements
    change = again.predict([molecule("H2O")])[0].energy - potential.predict([molecule("H2O")])[0].energy
    assert change == pytest.approx(-1995.0, abs=1e-6)


def test_random_weights_are_others(potential: SchnetpackPotential) -> None:
    one, same, other = (potential.with_random_weights(seed) for seed in (1, 1, 2))
    assert one.fingerprint == same.fingerprint
    assert len({potential.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert Activations(one)([molecule("H2O")]).values.std() > 0


@pytest.mark.parametrize("content", ["text", "checkpoint", "another model"])
def test_other_files_are_told_apart(tmp_path: Path, content: str) -> None:
    path = tmp_path / "odd.spk"
    if content == "text":
        path.write_text("nothing")
    else:
        torch.save({"state_dict": {}} if content == "checkpoint" else torch.nn.Linear(2, 2), path)
    with pytest.raises(PotentialError, match=r"is no model of schnetpack|holds a (dict|Linear)"):
        surveyor.open_potential(path)
