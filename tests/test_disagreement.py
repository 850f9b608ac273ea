"""The committee: disagreement against a plain formula, picks, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import rattled
from surveyor import select
from surveyor.cli import app
from surveyor.config import load_campaign
from surveyor.disagreement import disagreement, shared_elements
from surveyor.errors import ConfigError, PotentialError, StructureError, SurveyorError
from surveyor.potentials.mace import MacePotential
from surveyor.structures import write_structures
from tiny import tiny_mace

runner = CliRunner()


@pytest.fixture(scope="module")
def members() -> list[MacePotential]:
    return [tiny_mace(seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def member_files(members: list[MacePotential], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("committee")
    for number, potential in enumerate(members):
        potential.save(folder / f"{number}.model")
    return sorted(folder.glob("*.model"))


def plain(members: list[MacePotential], structures: list, on: str) -> list[float]:
    """Structure by structure and atom by atom, with ASE calculators."""
    found = []
    for atoms in structures:
        energies, forces = [], []
        for potential in members:
            trial = atoms.copy()
            trial.calc = potential.calculator()
            energies.append(trial.get_potential_energy())
            forces.append(trial.get_forces())
        if on == "energies":
            spread = sum((energy - np.mean(energies)) ** 2 for energy in energies) / len(energies)
            found.append(np.sqrt(spread) / len(atoms))
            continue
        mean = np.mean(forces, axis=0)
        each = [
            np.sqrt(np.mean([np.sum((force[a] - mean[a]) ** 2) for force in forces]))
            for a in range(len(atoms))
        ]
        found.append(max(each))
    return found


@pytest.mark.parametrize("on", ["energies", "forces"])
@pytest.mark.parametrize("count", [2, 3])
def test_disagreement_is_the_plain_formula(members: list[MacePotential], on: str, count: int) -> None:
    structures = rattled(6, seed=4)
    steps: list[int] = []
    found = disagreement(members[:count], iter(structures), on, on_progress=steps.append)
    np.testing.assert_allclose(found, plain(members[:count], structures, on), rtol=1e-8, atol=1e-12)
    assert (found > 0).all()
    assert sum(steps) == 6
    with_order = disagreement(members[:count][::-1], structures, on)
    np.testing.assert_allclose(with_order, found, rtol=1e-10)


def test_picks_are_the_structures_of_largest_disagreement(members: list[MacePotential]) -> None:
    pool = rattled(30, seed=5)
    pool = [*pool, pool[int(disagreement(members, pool).argmax())].copy()]  # its best twice
    for on in ("energies", "forces"):
        values = disagreement(members, pool, on)
        picked = select(
            pool, rattled(3, seed=6), members[0], 6,
            features="activations", rule="committee", committee=members, committee_on=on,
        )  # fmt: skip
        expected = np.argsort(-values[:30], kind="stable")[:6]
        assert picked.indices == expected.tolist()
        assert [atoms.info["surveyor_disagreement"] for atoms in picked.structures] == pytest.approx(
            values[expected].tolist()
        )
        np.testing.assert_allclose(picked.batch.scores, values[expected])


def test_committees_that_cannot_disagree_are_refused(members: list[MacePotential]) -> None:
    with pytest.raises(PotentialError, match=r"committee of 1\n(.|\n)*two potentials or more"):
        shared_elements(members[:1])
    with pytest.raises(PotentialError, match="members 0 and 2 of the committee are the same"):
        disagreement([members[0], members[1], members[0]], [])
    metals = tiny_mace(elements=(26, 29), seed=3)
    with pytest.raises(PotentialError, match="no element in common"):
        shared_elements([members[0], metals])
    hydrogen_carbon = tiny_mace(elements=(1, 6), seed=3)
    assert shared_elements([members[0], hydrogen_carbon]) == (1, 6)
    with pytest.raises(StructureError, match=r"structure 0: element O"):
        disagreement([members[0], hydrogen_carbon], rattled(1, seed=0))
    with pytest.raises(PotentialError, match="'stress'"):
        disagreement(members, rattled(1, seed=0), "stress")
    for settings in ({"rule": "committee"}, {"rule": "lcmd", "committee": members}):
        with pytest.raises(SurveyorError, match="committee"):
            select(rattled(9, seed=1), None, members[0], 2, **settings)  # type: ignore[arg-type]
    with pytest.raises(StructureError, match="element"):
        select(
            rattled(9, seed=1), None, members[0], 2,
            features="activations", rule="committee", committee=[members[0], hydrogen_carbon],
        )  # fmt: skip


def test_a_committee_at_the_terminal(tmp_path: Path, pool_file: Path, member_files: list[Path]) -> None:
    output = tmp_path / "picks.extxyz"
    arguments = ["select", pool_file, "-m", member_files[0], "--rule", "committee", "-n", 4, "-o", output]
    for file in member_files:
        arguments += ["--committee", file]
    done = runner.invoke(app, [str(a) for a in [*arguments, "--committee-on", "energies", "--json"]])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["scores"] == found["disagreement"] == sorted(found["disagreement"], reverse=True)
    written = [atoms.info["surveyor_disagreement"] for atoms in ase.io.read(output, ":")]
    assert written == pytest.approx(found["disagreement"])
    table = runner.invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"}).output
    assert "disagreement / eV/Å" in table
    refused = runner.invoke(app, [str(a) for a in arguments[:8]])
    assert refused.exit_code == 2
    assert "'committee' with 0 potentials" in refused.output


def test_a_campaign_says_why_it_takes_no_committee(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("pool: a.extxyz\nselection: {rule: committee}\n")
    with pytest.raises(ConfigError, match="one potential a round"):
        load_campaign(path)


def test_costs_and_budget(tmp_path: Path, members: list[MacePotential], member_files: list[Path]) -> None:
    pool = rattled(24, seed=8)
    for number, atoms in enumerate(pool):
        atoms.info["seconds"] = 1.0 + number % 5
    file = write_structures(tmp_path / "priced.extxyz", pool)

    def run(*more: object, code: int = 0) -> str:
        arguments = ["select", file, "-m", member_files[0], "--features", "activations", *more]
        done = runner.invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
        assert done.exit_code == code, done.output
        return done.output if code else done.stdout

    for rule in ("max-variance", "target-variance", "farthest", "lcmd"):
        found = json.loads(run("--rule", rule, "--cost", "atoms^3", "--budget", 500, "--json"))
        assert found["costs"] == [float(len(pool[index]) ** 3) for index in found["indices"]]
        assert sum(found["costs"]) <= 500
        assert found["stopped"] == "budget spent"
        left = [len(pool[index]) ** 3 for index in set(range(24)) - set(found["indices"])]
        assert min(left) > 500 - sum(found["costs"])  # nothing more would fit
    found = json.loads(run("--cost", "seconds", "--budget", 20, "-n", 3, "--json"))
    assert len(found["indices"]) == 3
    direct = select(pool, None, members[0], 3, features="activations", cost="seconds", budget=20)
    assert direct.indices == found["indices"]
    by_hand = [atoms.info["seconds"] for atoms in pool]
    again = select(pool, None, members[0], 3, features="activations", cost=np.array(by_hand), budget=20)
    assert again.indices == found["indices"]
    assert "cost of all picks" in run("--cost", "atoms", "--budget", 30)
    assert "without costs" in run("--budget", 5, code=2)
    assert "weighs none" in run("--rule", "top-k", "--cost", "atoms", code=2)
    assert "has no 'price' in info" in run("--cost", "price", code=2)
    assert "no pick: budget spent" in run("--cost", "atoms", "--budget", 0.5, code=2)
    pool[3].info["seconds"] = -1.0
    with pytest.raises(StructureError, match="structure 3 of the pool: seconds = -1"):
        select(pool, None, members[0], 3, features="activations", cost="seconds")
    with pytest.raises(SurveyorError, match="neither a number of picks nor a budget"):
        select(pool, None, members[0], None)
