"""Units and signs of results from elsewhere, against a potential, before one label is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr, Hartree, kcal, mol
from typer.testing import CliRunner

from molecules import rattled
from surveyor import open_potential
from surveyor.cli import app
from surveyor.doctor.results import check_units, unit_judge
from surveyor.errors import LabellingError, PotentialError
from surveyor.labelling import Ledger
from surveyor.labelling.batch import export_batch, open_batch
from surveyor.labelling.handoff import collect
from surveyor.structures import with_labels, write_structures
from surveyor.types import Labels, Potential


class Springs:
    """A potential of springs between all pairs of atoms, stiff ones where the atoms are heavy.

    Args:
        stiffness: eV/Å², of two atoms of hydrogen.
    """

    elements = (1, 6, 7, 8)
    fingerprint = "springs"

    def __init__(self, stiffness: float) -> None:
        self.stiffness = stiffness

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        return [self._labels(atoms) for atoms in structures]

    def _labels(self, atoms: Atoms) -> Labels:
        vectors = atoms.positions[:, None] - atoms.positions[None]
        distances = np.linalg.norm(vectors, axis=-1) + np.eye(len(atoms))
        off = ~np.eye(len(atoms), dtype=bool)
        k = self.stiffness * np.sqrt(np.outer(atoms.numbers, atoms.numbers))
        energy = float((k * 0.25 * (distances - 1.2) ** 2)[off].sum()) - 30.0 * float(atoms.numbers.sum())
        return Labels(energy, -((k * (distances - 1.2) / distances * off)[..., None] * vectors).sum(axis=1))

    def calculator(self) -> object:
        raise NotImplementedError

    def save(self, path: Path) -> None:
        raise NotImplementedError


MODEL: Potential = Springs(1.0)  # type: ignore[assignment]


def results(
    n: int = 16, force: float = 1.0, energy: float = 1.0, seed: int = 1
) -> list[tuple[Atoms, Labels]]:
    """Labels of another level of theory: 1.4 times as stiff, and noisy."""
    rng = np.random.default_rng(seed)
    found = []
    for atoms in rattled(n, seed, ("CH3OH",)):
        (exact,) = Springs(1.4).predict([atoms])
        forces = exact.forces + rng.normal(0, 0.1, exact.forces.shape)
        found.append((atoms, Labels(energy * exact.energy, force * forces)))
    return found


def test_another_level_of_theory_is_fine() -> None:
    said = check_units(results(), MODEL, "springs")
    assert "forces are 1.39" in said
    assert "energy differences are 1.40" in said


@pytest.mark.parametrize(
    ("force", "unit"),
    [
        (Bohr / Hartree, "Hartree/Bohr"),
        (mol / kcal, "kcal/mol/Å"),
        (1e3, "meV/Å"),
        (-1.0, "gradients taken for forces"),
        (-Bohr / Hartree, "gradients taken for forces, in .*Hartree/Bohr"),
        (1e-6, "they are none"),
    ],
)
def test_forces_in_other_units_and_signs_are_named(force: float, unit: str) -> None:
    with pytest.raises(LabellingError, match=unit) as caught:
        check_units(results(force=force), MODEL, "springs")
    assert "--trust-units" in str(caught.value)


@pytest.mark.parametrize("energy", [1 / Hartree, mol / kcal, -1.0])
def test_energies_in_other_units_and_signs_are_named(energy: float) -> None:
    with pytest.raises(LabellingError, match=r"Hartree|kcal/mol|fall where"):
        check_units(results(energy=energy), MODEL, "springs")


def test_a_part_in_another_unit_is_enough() -> None:
    mixed = [*results(12), *results(4, force=Bohr / Hartree, seed=2)]
    with pytest.raises(LabellingError, match=r"forces of 4 of 16 results .* Hartree/Bohr"):
        check_units(mixed, MODEL, "springs")
    flipped = [*results(12), *results(4, force=-1.0, seed=2)]
    with pytest.raises(LabellingError, match=r"forces of 4 of 16 results point the other way"):
        check_units(flipped, MODEL, "springs")


def test_what_cannot_be_told_is_said_and_refuses_nothing() -> None:
    assert "fewer than 5 new results" in unit_judge(lambda: MODEL, "springs")(results(4, force=0.02))
    strange = [(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]]), Labels(0.0, np.ones((2, 3))))] * 9
    assert "knows fewer than 5" in check_units(strange, MODEL, "springs")
    soft: Potential = Springs(0.01)  # type: ignore[assignment]
    assert "too small to tell" in check_units(results(), soft, "springs")
    rng = np.random.default_rng(0)
    unlike = [(a, Labels(0.0, rng.normal(0, 3, (len(a), 3)))) for a in rattled(9, 1, ("CH3OH",))]
    assert "not decided" in check_units(unlike, MODEL, "springs")

    def missing() -> Potential:
        raise PotentialError("no such file")

    assert "not checked: no such file" in unit_judge(missing, "springs")(results())


def test_nothing_is_written_where_the_units_are_wrong(tmp_path: Path) -> None:
    labelled = results(force=Bohr / Hartree)
    export_batch([a for a, _ in labelled], tmp_path / "b", method="m", campaign=None, separate=False)
    write_structures(tmp_path / "r.extxyz", [with_labels(a, labels) for a, labels in labelled])
    batch, ledger = open_batch(tmp_path / "b"), Ledger(tmp_path / "labels", "m")
    with pytest.raises(LabellingError, match=r"Hartree/Bohr .*taken for eV/Å"):
        collect(batch, [tmp_path / "r.extxyz"], ledger, judge=unit_judge(lambda: MODEL, "springs"))
    assert len(ledger) == 0
    assert not ledger.path.exists()


@pytest.mark.slow
def test_the_command_holds_results_against_the_built_in_potential(tmp_path: Path) -> None:
    structures = rattled(8, 3)
    predicted = open_potential("builtin").predict(structures)
    picks = write_structures(tmp_path / "picks.extxyz", structures)
    runner = CliRunner()
    batch = tmp_path / "batch"
    assert runner.invoke(app, ["label", "export", str(picks), str(batch), "--method", "PBE"]).exit_code == 0
    atomic = [
        with_labels(a, Labels(one.energy / Hartree, one.forces * Bohr / Hartree))
        for a, one in zip(structures, predicted, strict=True)
    ]
    path = write_structures(tmp_path / "results.extxyz", atomic)
    command = ["label", "collect", str(batch), str(path), "--json"]
    refused = runner.invoke(app, command)
    assert refused.exit_code == 2
    assert "Hartree/Bohr" in refused.stderr
    assert "taken for eV/Å" in refused.stderr
    assert len(json.loads(runner.invoke(app, [*command, "--trust-units"]).stdout)["new"]) == 8


def test_molecules_at_rest_are_not_judged() -> None:
    rest = [(molecule("CH4"), Labels(0.0, np.zeros((5, 3))))] * 8
    at_rest: Potential = Springs(1e-3)  # type: ignore[assignment]
    assert "too small to tell" in check_units(rest, at_rest, "springs")
