"""NequIP in its own environment: the contract, nequip's own numbers, and checkpoints that nequip reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from fresh import fresh
from nequip.integrations.ase import NequIPCalculator

import surveyor
from surveyor.errors import PotentialError
from surveyor.potentials.parameters import parameter_names
from surveyor.potentials.plan import gradient_plan
from surveyor.testing import check_potential
from surveyor_nequip.checkpoints import built, nequips_state
from surveyor_nequip.potential import NequIPPotential

torch.set_num_threads(1)

SMALL = {"num_layers": 2, "l_max": 1, "num_features": 8, "radial_mlp_width": 12, "r_max": 4.0}


def small(**settings: object) -> NequIPPotential:
    return fresh(type_names=["O", "H", "Na", "C", "Cl"], **SMALL, **settings)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    small().save(tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def some() -> list[Atoms]:
    cell = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    cell.rattle(0.05, seed=1)
    return [molecule("H2O"), molecule("CH3CH2OH"), cell, Atoms("O")]


def test_it_keeps_the_contract() -> None:
    done = check_potential(small(model_dtype="float64", parity=True), some())
    assert {"predictions", "slopes", "files", "tangents", "layers", "shifts", "sums_of_atoms"} <= set(done)


def test_energies_and_forces_are_those_of_nequip(file: Path) -> None:
    potential = surveyor.open_potential(file, "cpu")
    own = NequIPCalculator._from_saved_model(file, "cpu", chemical_species_to_atom_type_map=True)
    for atoms, labels in zip(some(), potential.predict(some()), strict=True):
        atoms.calc = own
        with nequips_state():
            assert labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
            np.testing.assert_allclose(labels.forces, atoms.get_forces(), atol=1e-5)
    assert np.std(
        [labels.energy / len(a) for labels, a in zip(potential.predict(some()), some(), strict=True)]
    )


@pytest.mark.parametrize("readout", [0, 1])
def test_every_parameter_has_a_rule_and_what_is_no_weight_is_none(readout: int) -> None:
    free = ("bessel_trainable", "per_type_energy_scales_trainable", "per_type_energy_shifts_trainable")
    potential = small(**dict.fromkeys(free, True), readout_mlp_hidden_layers_depth=readout)
    names = parameter_names(potential.model)
    assert not any(name.endswith(("bessel_weights", "scales", "shifts")) for name in names)
    assert any(".edge_mlp." in name for name in names)
    plan = gradient_plan(potential, names)
    assert plan.rest == ()
    assert {type(rule).__name__ for rule in plan.rules.values()} == {
        "ScaledLinear",
        "IrrepsLinear",
        "AttributeProduct",
        "Lookup",
    }


def test_shifted_energies_survive_in_the_file(file: Path, tmp_path: Path) -> None:
    potential = surveyor.open_potential(file, "cpu")
    shifted = potential.with_reference_shifts({1: 0.5, 8: -2000.0})
    shifted.save(tmp_path / "b.ckpt")
    again = surveyor.open_potential(tmp_path / "b.ckpt", "cpu")
    assert again.fingerprint == shifted.fingerprint != potential.fingerprint
    water = molecule("H2O")
    water.calc = NequIPCalculator._from_saved_model(
        tmp_path / "b.ckpt", "cpu", chemical_species_to_atom_type_map=True
    )
    wanted = potential.predict([water])[0].energy + 1.0 - 2000.0
    assert again.predict([water])[0].energy == pytest.approx(wanted, abs=1e-6)
    with nequips_state():
        assert water.get_potential_energy() == pytest.approx(wanted, abs=1e-5)


def test_random_weights_are_other_weights() -> None:
    potential = small()
    drawn = [potential.with_random_weights(seed) for seed in (1, 1, 2)]
    assert drawn[0].fingerprint == drawn[1].fingerprint
    assert len({each.fingerprint for each in (potential, *drawn)}) == 3


def test_a_training_that_went_on_from_another_checkpoint_is_opened_anywhere(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"_target_": "nequip.model.ModelFromCheckpoint", "checkpoint_path": file.name}
    with monkeypatch.context() as there:
        there.chdir(tmp_path)
        tuned = built(settings)["sole_model"]
    with torch.no_grad():
        tuned.model.func.type_embed.embed_module.weight += 0.1
    content = torch.load(file, weights_only=False)
    content["hyper_parameters"]["model"] = settings
    content["state_dict"] |= {f"model.sole_model.{n}": v for n, v in tuned.state_dict().items()}
    torch.save(content, tmp_path / "tuned.ckpt")
    opened = surveyor.open_potential(tmp_path / "tuned.ckpt", "cpu")
    before = surveyor.open_potential(file, "cpu")
    assert opened.fingerprint != before.fingerprint
    moved = opened.model.model.func.type_embed.embed_module.weight
    torch.testing.assert_close(moved, before.model.model.func.type_embed.embed_module.weight + 0.1)


def test_the_default_dtype_stays(file: Path) -> None:
    before = torch.get_default_dtype()
    for dtype in ("float64", "float32"):
        potential = surveyor.open_potential(file, "cpu", dtype)
        assert str(potential.dtype) == f"torch.{dtype}"
    assert torch.get_default_dtype() == before


def test_what_cannot_be_opened_is_a_message(file: Path, tmp_path: Path) -> None:
    (tmp_path / "b.ckpt").write_text("weights")
    with pytest.raises(PotentialError, match="cannot be opened as a NequIP model"):
        surveyor.open_potential(tmp_path / "b.ckpt")
    with pytest.raises(PotentialError, match="head 'PBE'"):
        surveyor.open_potential(file, "cpu", head="PBE")
    content = torch.load(file, weights_only=False)
    content["hyper_parameters"]["model"]["_target_"] = "nequip.model.modify"
    content["hyper_parameters"]["model"].pop("type_names")
    torch.save(content, tmp_path / "c.ckpt")
    with pytest.raises(PotentialError, match=r"is made by nequip.model.modify"):
        surveyor.open_potential(tmp_path / "c.ckpt")
    with pytest.raises(PotentialError, match="chemical symbols as type_names"):
        fresh(type_names=["A", "B"])
