"""Training by a program of one's own: what it is given, what it must leave, what becomes of its failures."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.data import chemical_symbols
from typer.testing import CliRunner

import surveyor
from conftest import emt_labelled, rattled
from surveyor.campaign import read_campaign
from surveyor.cli import app
from surveyor.config import load_campaign
from surveyor.errors import ConfigError, TrainingError
from surveyor.structures import labels_of, read_structures, structure_id
from surveyor.training import CommandTrainer, TrainingProgram
from surveyor.types import Potential
from test_campaign_training import config_file
from toy_family import ToyPotential, install

HERE = Path(__file__).parent
OPTIONS = {
    "--train": "{{ train }}",
    "--valid": "{{ valid }}",
    "--start": "{{ start }}",
    "--output": "{{ output }}",
    "--references": "{{ references_file }}",
    "--seed": "{{ seed }}",
}
COMMAND = [sys.executable, str(HERE / "trainer_program.py"), *chain.from_iterable(OPTIONS.items())]


@pytest.fixture
def mood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy family is installed; the file that says how the trainer behaves."""
    install(tmp_path, monkeypatch)
    return tmp_path / "mood"


def program(mood: Path, **changes: Any) -> dict[str, Any]:
    path = os.pathsep.join([str(HERE), str(HERE.parent / "src")])
    return {"command": COMMAND, "environment": {"MOOD": str(mood), "PYTHONPATH": path}, **changes}


def trained(
    mood: Path, workdir: Path, train: list[Atoms], references: dict[int, float] | None = None, **changes: Any
) -> Potential:
    start = surveyor.open_potential("toy:small")
    trainer = CommandTrainer(TrainingProgram(**program(mood, **changes)), start)
    return trainer(start, train, train[:2], seed=3, workdir=workdir, references=references)


def test_the_program_is_given_what_it_needs(mood: Path, tmp_path: Path) -> None:
    labelled = emt_labelled(rattled(6, seed=1))
    labelled[0].info["total_charge"] = 1
    tuned = trained(mood, tmp_path / "work", labelled)
    assert tuned.fingerprint != surveyor.open_potential("toy:small").fingerprint
    seen = list(read_structures(tmp_path / "work" / "train.extxyz"))
    assert [structure_id(atoms) for atoms in seen] == [structure_id(atoms) for atoms in labelled]
    for found, wanted in zip(seen, labelled, strict=True):
        assert labels_of(found).energy == pytest.approx(labels_of(wanted).energy)
        np.testing.assert_allclose(labels_of(found).forces, labels_of(wanted).forces, atol=1e-7)
    assert len(list(read_structures(tmp_path / "work" / "valid.extxyz"))) == 2
    # The start carries reference energies that are fitted to the labels.
    start = surveyor.open_potential(tmp_path / "work" / "start.toy")
    off = [p.energy - labels_of(a).energy for p, a in zip(start.predict(labelled), labelled, strict=True)]
    plain = surveyor.open_potential("toy:small").predict(labelled)
    before = [p.energy - labels_of(a).energy for p, a in zip(plain, labelled, strict=True)]
    assert np.square(off).sum() < 0.1 * np.square(before).sum()
    told = json.loads((tmp_path / "work" / "references.json").read_text())
    sums = [sum(told[symbol] for symbol in atoms.symbols) for atoms in labelled]
    left = [(labels_of(a).energy - s) / len(a) for a, s in zip(labelled, sums, strict=True)]
    for symbol in told:  # the least squares of energies per atom: residuals are orthogonal to every share
        shares = [atoms.symbols.count(symbol) / len(atoms) for atoms in labelled]
        assert np.dot(left, shares) == pytest.approx(0, abs=1e-6)


def test_a_template_may_name_any_element(mood: Path, tmp_path: Path) -> None:
    content = {"note.txt": "{{ references[8] }}"}
    references = {1: -1.5, 6: -2.5, 7: -3.5, 8: -4.5}
    trained(mood, tmp_path / "work", emt_labelled(rattled(3, seed=1)), references, input=content)
    assert (tmp_path / "work" / "note.txt").read_text() == "-4.5"


def test_isolated_atoms_are_handed_on(mood: Path, tmp_path: Path) -> None:
    references = {1: -1.5, 6: -2.5, 7: -3.5, 8: -4.5}
    mood.write_text("nothing")
    with pytest.raises(TrainingError, match=r"left no tuned\.toy"):
        trained(mood, tmp_path / "work", emt_labelled(rattled(4, seed=1)), references)
    told = json.loads((tmp_path / "work" / "references.json").read_text())
    assert told == {chemical_symbols[z]: energy for z, energy in references.items()}
    start = surveyor.open_potential(tmp_path / "work" / "start.toy")
    assert start.fingerprint == surveyor.open_potential("toy:small").fingerprint


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("fail", "ended with exit code 1: out of memory"),
        ("die", "ended with signal SIGKILL: training die"),
        ("hang", "was stopped at its time limit of 3 s"),
        ("idle", "changed nothing"),
        ("garbage", "what the training left cannot be opened"),
    ],
)
def test_what_is_no_training_is_an_error(mood: Path, tmp_path: Path, how: str, message: str) -> None:
    mood.write_text(how)
    limit = {"time_limit": 3} if how == "hang" else {}
    with pytest.raises(TrainingError, match=message):
        trained(mood, tmp_path / "work", emt_labelled(rattled(4, seed=1)), **limit)
    assert how in (tmp_path / "work" / "stdout").read_text() or how == "hang"


def test_a_potential_without_numbers_is_an_error(mood: Path, tmp_path: Path) -> None:
    broken = surveyor.open_potential("toy:small")
    assert isinstance(broken, ToyPotential)
    broken.model.references[:] = float("nan")
    broken.save(tmp_path / "broken.toy")
    mood.write_text(str(tmp_path / "broken.toy"))
    with pytest.raises(TrainingError, match="predicts NaN or inf"):
        trained(mood, tmp_path / "work", emt_labelled(rattled(4, seed=1)))


def test_a_campaign_goes_on_after_a_failed_training(mood: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    log = tmp_path / "log"
    labels = {"calculator": "calculators:CountingEMT", "settings": {"log": str(log)}, "processes": 1}
    training = {"command": program(mood), "valid_fraction": 0.2, "threads": 1}
    file = config_file(folder, Path("toy:small"), labels=labels, training=training, forgetting=False)
    command = ["run", str(file), "--folder", str(folder / "c")]
    mood.write_text("fail")
    failed = CliRunner().invoke(app, command)
    assert failed.exit_code == 2
    assert "out of memory" in failed.output
    assert (folder / "c" / "rounds" / "001" / "training" / "stderr").read_text().strip() == "out of memory"
    mood.unlink()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    rounds = read_campaign(folder / "c").rounds
    assert [record.labels for record in rounds] == [4, 8, 12]
    assert set(Counter(log.read_text().split()).values()) == {1}
    assert rounds[2].force_mae is not None
    assert rounds[0].force_mae is not None
    assert rounds[2].force_mae < rounds[0].force_mae


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([*COMMAND, "{{ trian }}"], "'trian' is undefined"),
        ([*COMMAND, "{{ train"], "the template of the command"),
        ([*COMMAND, "{{ 1 / 0 }}"], "division by zero"),
        ([*COMMAND, "{{ references[119] }}"], "no element 119"),
        (["no-such-trainer", "{{ train }}"], "there is no program 'no-such-trainer'"),
    ],
)
def test_a_command_that_cannot_be_is_refused_before_anything_is_paid(
    mood: Path, tmp_path: Path, command: list[str], message: str
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    file = config_file(folder, Path("toy:small"), training={"command": command})
    done = CliRunner().invoke(app, ["run", str(file), "--folder", str(folder / "c")])
    assert done.exit_code == 2
    assert message in done.output
    assert not (folder / "c" / "labels").exists()


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"command": ["python"], "updates": 30}, "updates has no effect on training: command"),
        ({"command": []}, "at least 1 item"),
        ({"command": {"command": ["a"], "input": {"a": {"file": "b\0c"}}}}, "null byte"),
        ({"command": {"comand": ["python"]}}, r"unknown key 'training.command.comand'(.|\n)*mean 'command'"),
        ({"command": {"command": ["python"], "potential": "../x"}}, "a file inside the scratch folder"),
        (
            {"command": {"command": ["python"], "input": {"a": {"file": "b"}}}},
            "training: command: input: a: cannot",
        ),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, training: dict[str, Any], message: str) -> None:
    file = tmp_path / "campaign.yaml"
    file.write_text(yaml.safe_dump({"pool": "pool.extxyz", "training": training}))
    with pytest.raises(ConfigError, match=message):
        load_campaign(file)


def test_a_correction_of_no_parameter_is_refused_before_anything_is_paid(mood: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    section = {"correction": {"parameters": "no-such-layer"}}
    file = config_file(folder, Path("toy:small"), training=section)
    done = CliRunner().invoke(app, ["run", str(file), "--folder", str(folder / "c")])
    assert done.exit_code == 2
    assert "no parameter matches 'no-such-layer'" in done.output
    assert not (folder / "c" / "labels").exists()


def test_template_files_and_the_program_lie_beside_the_campaign_file(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("seed: {{ seed }}\n")
    training = {"command": {"command": ["./train.sh"], "input": {"s.yaml": {"file": "settings.yaml"}}}}
    file = tmp_path / "campaign.yaml"
    file.write_text(yaml.safe_dump({"pool": "pool.extxyz", "training": training}))
    found = load_campaign(file).training.command
    assert found == TrainingProgram(
        command=[str(tmp_path / "train.sh")], input={"s.yaml": "seed: {{ seed }}\n"}
    )
