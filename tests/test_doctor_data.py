"""`surveyor doctor` on real sets: what it says is so, and it says no more."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from conftest import data_file
from surveyor.cli import app
from surveyor.doctor.checks import examine_dataset
from surveyor.doctor.dataset import Role, dataset_of
from surveyor.doctor.findings import Finding, Level
from surveyor.doctor.geometry import cell, charge_and_spin, geometry
from surveyor.doctor.repeats import copies
from surveyor.potentials.mace import MacePotential
from surveyor.progress import Silent
from surveyor.structures import with_labels
from surveyor.types import Labels
from test_gradients import omol_like
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
    raised = {f.check for f in found if f.verdict.level in (Level.WARNING, Level.ERROR)}
    assert raised <= {"force unit", "energy unit", "outliers"}  # an untrained potential
    assert next(f for f in found if f.check == "gradient").verdict.level is Level.OK
    flipped = copper(30)
    for frame in flipped:
        frame.arrays["REF_forces"] *= -1
    assert "wrong sign" in next(
        f.verdict.found for f in examined(flipped, potential) if f.check == "gradient"
    )


@pytest.mark.parametrize("role", list(Role))
def test_odd_files_raise_nothing(role: Role, potential: MacePotential) -> None:
    """One frame, one atom, no atoms, text for numbers: a verdict each, and no traceback."""
    strange = Atoms("OH2", [[0, 0, 0], [0, 0.8, 0.6], [0, -0.8, 0.6]])
    strange.info |= {"total_charge": "none", "REF_energy": "n/a", "total_spin": 1}
    lonely = with_labels(Atoms("H"), Labels(-13.6, np.zeros((1, 3))))
    for frames in ([lonely], [lonely] * 25, [strange], [Atoms()], [strange, Atoms(), lonely]):
        found = examined([frame.copy() for frame in frames], potential, role)
        assert all(f.verdict.found for f in found)
        assert all(f.verdict.todo for f in found if f.verdict.level in (Level.WARNING, Level.ERROR))


def verdict_on(frames: list[Atoms], check: object, role: Role = Role.POOL) -> object:
    return check(dataset_of("a.extxyz", frames, role))  # type: ignore[operator]


def test_charge_and_multiplicity_are_judged_frame_by_frame() -> None:
    """Most frames of a file do not speak for one: 100 sound ones, and each that cannot be is named."""
    sound = [Atoms("O", info={"total_charge": 0, "total_spin": 3}) for _ in range(100)]
    verdict = verdict_on(sound, charge_and_spin)
    assert verdict.level is Level.OK

    def named(**info: object) -> object:
        frames = [atoms.copy() for atoms in sound]
        frames[41].info = dict(info)
        return verdict_on(frames, charge_and_spin)

    for info, text in (
        ({"total_charge": 1, "total_spin": 3}, "multiplicity 3 with 7 electrons cannot be: frame 41"),
        ({"total_charge": 0, "multiplicity": 2}, "multiplicity 2 with 8 electrons cannot be: frame 41"),
        ({"charge": 6, "spin_multiplicity": 5}, "multiplicity 5 with 2 electrons cannot be: frame 41"),
        ({"total_charge": 0.5}, "charge or spin that cannot be: frame 41"),
        ({"total_charge": "two"}, "charge or spin that cannot be: frame 41"),
        ({"total_charge": 0, "spin": 0}, "charge or spin that cannot be: frame 41"),
        ({"total_charge": float("nan")}, "charge or spin that cannot be: frame 41"),
    ):
        verdict = named(**info)
        assert verdict.level is Level.ERROR
        assert text in verdict.found
    verdict = named(total_charge=1)
    assert verdict.level is Level.WARNING
    assert "no total_spin in 1 of 100 frames (frame 41)" in verdict.found
    frames = [atoms.copy() for atoms in sound]
    frames[3].info, frames[7].info, frames[9].info = (
        {"total_spin": 2},
        {"total_spin": 4},
        {"total_charge": -1},
    )
    verdict = verdict_on(frames, charge_and_spin)
    for part in (
        "multiplicity 2 with 8 electrons cannot be: frame 3",
        "multiplicity 4 with 8 electrons",
        "frame 9",
    ):
        assert part in verdict.found


def test_near_copies_in_a_file_are_said() -> None:
    rng = np.random.default_rng(0)
    crystal = bulk("NaCl", "rocksalt", a=5.6)
    frames = []
    for _ in range(5):
        atoms = crystal.copy()
        atoms.rattle(0.05, rng=rng)
        frames.append(atoms)
    assert verdict_on(frames, copies).found == "all different"
    again = frames[2].copy()
    again.positions += 2e-6
    verdict = verdict_on([*frames, again], copies)
    assert "1 of 6 are within 1e-5 Å of another one" in verdict.found
    assert verdict.level is Level.OK
    labelled = [
        with_labels(atoms, Labels(0.1 * k, np.ones((2, 3)))) for k, atoms in enumerate([*frames, again])
    ]
    verdict = verdict_on(labelled, copies, Role.START)
    assert verdict.level is Level.ERROR  # two energies for one structure
    assert "frames 2 and 5 differ by 0.30 eV" in verdict.found


def test_a_sheet_needs_no_third_cell_vector_and_a_flat_cell_is_an_error() -> None:
    sheet = Atoms("C2", [[0, 0, 0], [1.4, 0, 0]], cell=[[4.2, 0, 0], [0, 2.4, 0], [0, 0, 0]], pbc=(1, 1, 0))
    assert verdict_on([sheet], cell).level is Level.OK
    flat = sheet.copy()
    flat.set_cell([[4.2, 0, 0], [8.4, 0, 0], [0, 0, 0]])
    verdict = verdict_on([sheet, flat], cell)
    assert verdict.level is Level.ERROR
    assert "frame 1" in verdict.found


def test_a_large_structure_is_looked_at_in_little_memory() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(25.0)] * 3), -1).reshape(-1, 3) * 3.0
    frames = [Atoms(np.full(len(grid), 18), grid + 0.3 * k * grid[::-1]) for k in range(2)]
    frames[1].positions[-1] += 400.0
    assert (
        "an atom more than 10 Å from all others in 1 of 2 frames (frame 1)"
        in verdict_on(frames, geometry).found
    )
    assert verdict_on(frames, copies).found == "all different"


@pytest.mark.parametrize("takes", [True, False])
def test_a_model_that_ignores_charge_or_spin_is_named_where_they_differ(takes: bool) -> None:
    potential = omol_like() if takes else tiny_mace()
    frames = [molecule("H2O") for _ in range(4)]
    alike = [finding.verdict for finding in examined(frames, potential) if finding.check == "charges"]
    assert [(verdict.level, verdict.found) for verdict in alike] == [(Level.OK, "the same in all frames")]
    frames[1].info |= {"total_charge": 1, "total_spin": 2}
    frames[2].info |= {"charge": -1, "multiplicity": 4}
    (verdict,) = [finding.verdict for finding in examined(frames, potential) if finding.check == "charges"]
    assert verdict.level is (Level.OK if takes else Level.WARNING)
    word = "takes" if takes else "ignores"
    assert verdict.found == f"the model {word} the charge (-1, 0, 1) and the spin (1, 2, 4)"
