"""`surveyor doctor` on real sets: what it says is so, and it says no more."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from conftest import data_file
from surveyor.cli import app
from surveyor.doctor.checks import examine_dataset
from surveyor.doctor.dataset import Role, dataset_of
from surveyor.doctor.findings import Finding, Level
from surveyor.potentials.mace import MacePotential
from surveyor.progress import Silent
from surveyor.structures import with_labels
from surveyor.types import Labels
from tiny import tiny_mace

EXAMPLE = Path(__file__).parents[1] / "examples" / "reactions" / "campaign.yaml"


def alarms(*arguments: str | Path) -> set[str]:
    outcome = CliRunner().invoke(app, ["doctor", *map(str, arguments), "--json"])
    assert outcome.exit_code in (0, 1), outcome.output
    findings = json.loads(outcome.stdout)["findings"]
    return {f["check"] for f in findings if f["level"] in ("warning", "error")}


@pytest.mark.slow
def test_the_example_campaign_is_silent() -> None:
    assert alarms("--campaign", EXAMPLE) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h2-combustion-pool", {"charge and spin", "copies"}),  # doublets that do not say so; 256 repeats
        ("h2-combustion-irc", {"charge and spin"}),
        ("sn2-mp2", set()),
        ("acetylacetone-pbe", {"missing labels"}),  # 15 frames without forces
        ("diels-alder-mp2", set()),
        ("rdb7-geometries", set()),
    ],
)
def test_public_sets(name: str, expected: set[str]) -> None:
    assert alarms(data_file(f"{name}.extxyz")) == expected


def examined(frames: list[Atoms], potential: MacePotential, role: Role = Role.DATA) -> list[Finding]:
    return list(examine_dataset(dataset_of("data", frames, role), potential, Silent(), seed=0))


def copper(n: int) -> list[Atoms]:
    """A cell of copper along a shaking path, EMT labels."""
    rng = np.random.default_rng(0)
    atoms = bulk("Cu", cubic=True)
    frames = []
    for _ in range(n):
        atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
        trial = atoms.copy()
        trial.calc = EMT()
        frames.append(with_labels(trial, Labels(trial.get_potential_energy(), trial.get_forces())))
    return frames


def test_crystals() -> None:
    potential = tiny_mace(elements=(29,))
    found = examined(copper(30), potential)
    raised = {f.check for f in found if f.level in (Level.WARNING, Level.ERROR)}
    assert raised <= {"force unit", "energy unit", "outliers"}  # an untrained potential
    assert next(f for f in found if f.check == "gradient").level is Level.OK
    flipped = copper(30)
    for frame in flipped:
        frame.arrays["REF_forces"] *= -1
    assert "wrong sign" in next(f.found for f in examined(flipped, potential) if f.check == "gradient")


@pytest.mark.parametrize("role", list(Role))
def test_odd_files_raise_nothing(role: Role, potential: MacePotential) -> None:
    """One frame, one atom, no atoms, text for numbers: a verdict each, and no traceback."""
    strange = Atoms("OH2", [[0, 0, 0], [0, 0.8, 0.6], [0, -0.8, 0.6]])
    strange.info |= {"total_charge": "none", "REF_energy": "n/a", "total_spin": 1}
    lonely = with_labels(Atoms("H"), Labels(-13.6, np.zeros((1, 3))))
    for frames in ([lonely], [lonely] * 25, [strange], [Atoms()], [strange, Atoms(), lonely]):
        found = examined([frame.copy() for frame in frames], potential, role)
        assert all(f.found for f in found)
        assert all(f.todo for f in found if f.level in (Level.WARNING, Level.ERROR))
