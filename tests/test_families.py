"""Potentials of any family: the contract, a toy family as a plug-in, capabilities that are missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from typer.testing import CliRunner

import surveyor
from conftest import emt_labelled, rattled
from surveyor.campaign import read_campaign
from surveyor.cli import app
from surveyor.errors import Notice, PotentialError
from surveyor.features import Activations, Tangent
from surveyor.potentials.base import Layered, Redrawable, Trainable, require
from surveyor.potentials.parameters import parameter_names
from surveyor.potentials.plan import gradient_plan
from surveyor.potentials.rules import RowLocal
from surveyor.structures import write_structures
from surveyor.testing import check_potential
from surveyor.types import Labels
from test_campaign_training import config_file
from tiny import random_crystal, random_molecule, tiny_mace
from toy_family import Radial, ToyPotential, install


@pytest.fixture(autouse=True)
def _plain_execution() -> Iterator[None]:
    """Compiling TorchScript anew for each shape would take most of the time."""
    with torch.jit.optimized_execution(False):
        yield


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyPotential:
    install(tmp_path, monkeypatch)
    found = surveyor.open_potential("toy:small")
    assert isinstance(found, ToyPotential)
    return found


def some() -> list[Atoms]:
    rng = np.random.default_rng(2)
    return [random_molecule(rng, 3), random_crystal(rng, 3), random_molecule(rng, 5), Atoms("O")]


def molecules() -> list[Atoms]:
    return [atoms for atoms in some() if not atoms.pbc.any()]


def test_mace_keeps_the_contract() -> None:
    done = check_potential(tiny_mace(channels=4, max_L=1), some())
    assert {"predictions", "slopes", "symmetries", "files", "tangents", "layers", "shifts"} < set(done)


def test_the_toy_family_keeps_the_contract(toy: ToyPotential) -> None:
    done = check_potential(toy, molecules())
    assert {"tangents", "layers", "shifts", "sums_of_atoms"} < set(done)


class Hot(ToyPotential):
    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        return [Labels(labels.energy, 1.01 * labels.forces) for labels in super().predict(structures)]


class Crowded(ToyPotential):
    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        extra = 1e-3 * len(structures)
        return [Labels(labels.energy + extra, labels.forces) for labels in super().predict(structures)]


class Careless(ToyPotential):
    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        found = super().predict(structures)
        for atoms in structures:
            atoms.positions -= atoms.positions.mean(axis=0)
        return found


class Forgetful(ToyPotential):
    def save(self, path: str | Path) -> None:
        torch.save(Radial().double().state_dict(), path)


class Lavish(ToyPotential):
    elements = (1, 6, 7, 8, 9)

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        return [Labels(0.0, np.zeros((len(atoms), 3))) for atoms in structures]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Hot, "by the calculator: forces"),
        (Crowded, "in a batch and alone: energy"),
        (Careless, "turned|was changed"),
        (Forgetful, "fingerprint .* after opening"),
        (Lavish, "unknown element is predicted"),
    ],
)
def test_the_contract_finds_what_is_broken(toy: ToyPotential, kind: type[ToyPotential], message: str) -> None:
    with pytest.raises(PotentialError, match=message):
        check_potential(kind(toy.model), molecules())


def test_every_module_of_the_toy_is_differentiated_in_batches(toy: ToyPotential) -> None:
    plan = gradient_plan(toy, parameter_names(toy.model))
    assert plan.rest == ()
    assert isinstance(plan.rules["sharpen"], RowLocal)
    assert {plan.rules[name].domain for name in ("radial.0", "radial.2")} == {"edges"}
    assert plan.rules["readout.0"].domain == "nodes"


@pytest.mark.parametrize("features", ["tangent", "activations"])
def test_the_toy_family_selects(toy: ToyPotential, features: str, tmp_path: Path) -> None:
    pool, model = write_structures(tmp_path / "pool.extxyz", rattled(16, seed=1)), tmp_path / "a.toy"
    toy.save(model)
    output = tmp_path / "picks.extxyz"
    arguments = ["select", pool, "--model", model, "-n", 3, "--features", features, "--dim", 32]
    done = CliRunner().invoke(app, [*map(str, arguments), "-o", str(output), "--json"])
    assert done.exit_code == 0, done.output
    indices = json.loads(done.stdout)["indices"]
    made = Tangent(toy, dim=32, normalise="atoms") if features == "tangent" else Activations(toy)
    wanted = surveyor.select(rattled(16, seed=1), None, toy, 3, features=features, dim=32)
    assert indices == wanted.indices
    assert len(set(indices)) == 3
    shares = surveyor.read_structures(output)
    assert all(abs(atoms.arrays["surveyor_atom_share"].sum() - 1) < 1e-6 for atoms in shares)
    assert made.dim == (32 if features == "tangent" else 8)


def test_the_toy_family_goes_through_a_campaign(toy: ToyPotential, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    config = config_file(folder, Path("toy:small"), labels={"calculator": "ase.calculators.emt.EMT"})
    done = CliRunner().invoke(app, ["run", str(config), "--folder", str(folder / "c")])
    assert done.exit_code == 0, done.output
    rounds = read_campaign(folder / "c").rounds
    assert [record.labels for record in rounds] == [4, 8, 12]
    tuned = surveyor.open_potential(f"toy:{folder / 'c' / 'rounds' / '002' / 'potential.model'}")
    assert tuned.fingerprint != toy.fingerprint
    assert tuned.elements == toy.elements


class Core:
    """What is required, and nothing more."""

    family = "core"
    elements = (1, 6, 7, 8)
    fingerprint = "core"

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        return [Labels(float(atoms.positions.sum()), np.ones((len(atoms), 3))) for atoms in structures]

    def calculator(self) -> Any: ...

    def save(self, path: Path) -> None: ...


def test_what_lacks_a_capability_is_told_which(toy: ToyPotential) -> None:
    for features, capability in (("tangent", "Differentiable"), ("activations", "Layered")):
        with pytest.raises(
            PotentialError, match=rf"the family 'core' is not {capability} .*\n.*\n.*docs/extending"
        ):
            surveyor.select(rattled(5, seed=1), None, Core(), 2, features=features)
    for missing in (Layered, Trainable):
        with pytest.raises(PotentialError, match=f"trying: the family 'core' is not {missing.__name__}"):
            require(Core(), missing, "trying")
    with pytest.raises(PotentialError, match=r"'toy' is not Redrawable \(ToyPotential\)"):
        require(toy, Redrawable, "the baseline")
    assert require(toy, Layered, "activations") is toy


class Bolted(ToyPotential):
    """Without shifts of its reference energies."""

    with_reference_shifts = property()  # type: ignore[assignment]


def test_a_selection_without_calibration_says_so(toy: ToyPotential) -> None:
    with pytest.warns(Notice, match="no calibration: reference energies of the family 'toy'"):
        picked = surveyor.select(
            rattled(12, seed=1), emt_labelled(rattled(24, seed=2)), Bolted(toy.model), 2, dim=16
        )
    assert picked.batch.errors is None


def test_families_and_names_that_do_not_exist(toy: ToyPotential, tmp_path: Path) -> None:
    odd = tmp_path / "odd.pt"
    odd.write_text("")
    for source, message in (
        ("toy:large", r"no potential 'large' of the family 'toy'\n.*: a file, small"),
        ("toys:small", r"no potential 'toys:small'\n.*toy:NAME"),
        (odd, r"its ending does not tell .*\n.*mace \(\.model\), toy \(\.toy\)\n.*mace:.*odd.pt"),
    ):
        with pytest.raises(PotentialError, match=message):
            surveyor.open_potential(source)


@pytest.mark.parametrize("code", [None, "x = 1", "raise RuntimeError('no licence')", "raise SystemExit(3)"])
def test_a_family_that_cannot_be_imported_harms_no_other(
    toy: ToyPotential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None
) -> None:
    (tmp_path / "more").mkdir()
    if code is not None:
        (tmp_path / "more" / "broken_family.py").write_text(code)
    monkeypatch.delitem(sys.modules, "broken_family", raising=False)
    install(tmp_path / "more", monkeypatch, "broken", "broken_family:FAMILY")
    toy.save(tmp_path / "a.toy")
    assert surveyor.open_potential(tmp_path / "a.toy").fingerprint == toy.fingerprint
    with pytest.raises(PotentialError, match="the family 'broken' of potentials cannot be imported"):
        surveyor.open_potential("broken:x")


WITHOUT_MACE = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mace", "e3nn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
from surveyor.cli import app
app(sys.argv[1:])
"""


def test_soap_needs_no_mace(tmp_path: Path) -> None:
    pytest.importorskip("dscribe")
    pool = write_structures(tmp_path / "pool.extxyz", rattled(8, seed=1, names=("H2O", "CH4")))
    select = [sys.executable, "-c", WITHOUT_MACE, "select", str(pool), "-n", "2", "--rule", "max-variance"]
    done = subprocess.run([*select, "--features", "soap", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["indices"]) == 2
    refused = subprocess.run(select, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "the family 'mace' of potentials cannot be imported: No module named" in refused.stderr
