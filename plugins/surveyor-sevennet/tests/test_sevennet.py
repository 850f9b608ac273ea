"""SevenNet in its own environment: the contract, sevenn's own numbers, and checkpoints that sevenn reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from sevenn.calculator import SevenNetCalculator

import surveyor
from surveyor.errors import PotentialError
from surveyor.potentials.parameters import parameter_names
from surveyor.potentials.plan import gradient_plan
from surveyor.testing import check_potential
from surveyor_sevennet.potential import SevenNetPotential

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def potential() -> SevenNetPotential:
    found = surveyor.open_potential("sevennet:7net-0", "cpu")
    assert isinstance(found, SevenNetPotential)
    return found


def some() -> list[Atoms]:
    cell = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    cell.rattle(0.05, seed=1)
    return [molecule("H2O"), molecule("CH3CH2OH"), cell, Atoms("O")]


def test_it_keeps_the_contract(potential: SevenNetPotential) -> None:
    done = check_potential(potential, some())
    assert {"predictions", "slopes", "files", "tangents", "layers", "shifts", "sums_of_atoms"} <= set(done)


def test_energies_and_forces_are_those_of_sevenn(potential: SevenNetPotential) -> None:
    own = SevenNetCalculator("7net-0", device="cpu")
    for atoms, labels in zip(some(), potential.predict(some()), strict=True):
        atoms.calc = own
        assert labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        np.testing.assert_allclose(labels.forces, atoms.get_forces(), atol=2e-5)


def test_every_parameter_has_a_rule_and_the_frequencies_are_none(potential: SevenNetPotential) -> None:
    names = parameter_names(potential.model)
    assert not any(name.endswith(("coeffs", "shift", "scale", "denominator")) for name in names)
    assert sum(potential.model.get_parameter(name).numel() for name in names) > 800_000
    assert gradient_plan(potential, names).rest == ()


def test_shifted_energies_survive_in_the_file(potential: SevenNetPotential, tmp_path: Path) -> None:
    shifted = potential.with_reference_shifts({1: 0.5, 8: -2000.0})
    shifted.save(tmp_path / "a.pth")
    again = surveyor.open_potential(tmp_path / "a.pth", "cpu")
    assert again.fingerprint == shifted.fingerprint != potential.fingerprint
    water = molecule("H2O")
    water.calc = SevenNetCalculator(str(tmp_path / "a.pth"), device="cpu")
    wanted = potential.predict([water])[0].energy + 1.0 - 2000.0
    assert again.predict([water])[0].energy == pytest.approx(wanted, abs=1e-3)
    assert water.get_potential_energy() == pytest.approx(wanted, abs=1e-3)


def test_float64_agrees_and_survives_in_the_file(potential: SevenNetPotential, tmp_path: Path) -> None:
    exact = surveyor.open_potential("sevennet:7net-0", "cpu", "float64")
    exact.save(tmp_path / "a.pth")
    assert surveyor.open_potential(tmp_path / "a.pth", "cpu").fingerprint == exact.fingerprint
    for one, two in zip(potential.predict(some()), exact.predict(some()), strict=True):
        assert one.energy == pytest.approx(two.energy, abs=2e-4)
        np.testing.assert_allclose(one.forces, two.forces, atol=5e-5)


def test_a_model_of_several_modalities_asks_which() -> None:
    with pytest.raises(PotentialError, match=r"modalities R2SCAN, PBE.*\n.*\n.*--head"):
        surveyor.open_potential("sevennet:7net-mf-0", "cpu")
    levels = [surveyor.open_potential("sevennet:7net-mf-0", "cpu", head=head) for head in ("PBE", "R2SCAN")]
    water = molecule("H2O")
    for level, head in zip(levels, ("PBE", "R2SCAN"), strict=True):
        water.calc = SevenNetCalculator("7net-mf-0", device="cpu", modal=head)
        assert level.predict([water])[0].energy == pytest.approx(water.get_potential_energy(), abs=1e-4)
    assert levels[0].fingerprint != levels[1].fingerprint


def test_what_is_no_checkpoint_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("weights")
    with pytest.raises(PotentialError, match="cannot be opened as a SevenNet model"):
        surveyor.open_potential(tmp_path / "a.pth")
    with pytest.raises(PotentialError, match="head 'PBE'"):
        surveyor.open_potential("sevennet:7net-0", "cpu", head="PBE")
