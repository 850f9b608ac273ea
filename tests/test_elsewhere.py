"""Potentials of another environment give what they give here, and a process there harms nobody."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from typer.testing import CliRunner

import surveyor
from conftest import emt_labelled, rattled
from surveyor.campaign import read_campaign
from surveyor.cli import app
from surveyor.config import load_campaign
from surveyor.config.resume import check_config
from surveyor.errors import ConfigError, Notice, PotentialError, StructureError
from surveyor.features.registry import Given, make_features
from surveyor.potentials.base import Remote, Shiftable
from surveyor.potentials.elsewhere import messages
from surveyor.potentials.elsewhere.messages import Message
from surveyor.potentials.opening import open_alike, suffix_of
from surveyor.structures import write_structures
from surveyor.structures.labels import has_labels
from surveyor.testing import check_potential
from surveyor.types import Potential
from test_training_command import program
from toy_family import ToyPotential, install

HERE = Path(__file__).parent

NOISY = """
    import os
    import sys
    import warnings
    from surveyor.errors import notice
    from toy_family import FAMILY as TOY, ToyPotential

    print("printed when it is imported")

    class NoisyPotential(ToyPotential):
        family = "noisy"

        def predict(self, structures):
            print("printed"); os.write(1, b"written"); warnings.warn("of a library")
            notice("something to know")
            if len(structures[0]) == 1:
                raise ZeroDivisionError("no pair")
            if len(structures[0]) == 2:
                print("out of memory", file=sys.stderr, flush=True)
                os._exit(9)
            return super().predict(structures)

    class Noisy:
        suffixes = (".noisy",)
        names = TOY.names
        def open(self, source, *, device, dtype, head):
            return NoisyPotential(TOY.open(source, device=device, dtype=dtype, head=head).model)

    FAMILY = Noisy()
"""


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Python whose environment has the families toy and noisy; PYTHONPATH is what makes it one."""
    (tmp_path / "noisy_family.py").write_text(textwrap.dedent(NOISY))
    install(tmp_path, monkeypatch)
    install(tmp_path, monkeypatch, "noisy", "noisy_family:FAMILY")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(HERE)]))
    return sys.executable


@pytest.fixture
def toy(there: str) -> Potential:
    return surveyor.open_potential("toy:small", python=there)


def test_it_is_the_same_potential(toy: Potential, tmp_path: Path) -> None:
    here = surveyor.open_potential("toy:small")
    assert (toy.family, toy.fingerprint, toy.elements) == (here.family, here.fingerprint, here.elements)
    assert isinstance(toy, Remote)
    assert isinstance(toy, Shiftable)
    assert suffix_of(toy) == suffix_of(here) == ".toy"
    structures = rattled(9, seed=1)
    for found, wanted in zip(toy.predict(structures), here.predict(structures), strict=True):
        assert found.energy == wanted.energy
        np.testing.assert_array_equal(found.forces, wanted.forces)
    done = check_potential(toy, [molecule("H2O"), molecule("CH3OH"), molecule("O")])
    assert {"predictions", "slopes", "files", "shifts"} <= set(done)
    toy.save(tmp_path / "a.toy")
    assert open_alike(toy, tmp_path / "a.toy").fingerprint == here.fingerprint
    assert surveyor.open_potential(tmp_path / "a.toy").fingerprint == here.fingerprint
    with pytest.raises(StructureError, match="structure 1: element Og is unknown"):
        toy.predict([molecule("H2O"), Atoms("Og")])


@pytest.mark.parametrize("name", ["tangent", "activations", "energy-force-tangent"])
def test_features_are_those_of_the_potential_here(toy: Potential, name: str) -> None:
    here = make_features(name, Given(surveyor.open_potential("toy:small"), dim=24, seed=3))
    found = make_features(name, Given(toy, dim=24, seed=3))
    assert (found.dim, found.settings) == (here.dim, json.loads(json.dumps(dict(here.settings))))
    structures = rattled(300, seed=1, names=("H2O", "CH4", "CH3OH"))  # more than one question
    one, two = found(structures), here(structures)
    np.testing.assert_array_equal(one.owner, two.owner)
    np.testing.assert_allclose(one.values, two.values, rtol=1e-5, atol=1e-8)
    assert len(found([])) == 0


def test_select_picks_the_same(there: str, tmp_path: Path) -> None:
    pool = write_structures(tmp_path / "pool.extxyz", rattled(16, seed=1))
    command = ["select", str(pool), "--model", "toy:small", "-n", "3", "--dim", "32", "--json"]
    picks = []
    for more in ([], ["--python", there]):
        done = CliRunner().invoke(app, [*command, *more])
        assert done.exit_code == 0, done.output
        picks.append(json.loads(done.stdout)["indices"])
    assert picks[0] == picks[1]
    refused = CliRunner().invoke(app, [*command, "--python", str(tmp_path / "python")])
    assert refused.exit_code == 2
    assert "there is no Python" in refused.stderr


@pytest.mark.filterwarnings("ignore::surveyor.errors.Notice")  # a potential that nobody trained
def test_evaluate_finds_the_same_errors(there: str) -> None:
    labelled = emt_labelled(rattled(9, seed=4))
    here, found = (surveyor.evaluate(labelled, "toy:small", python=python) for python in (None, there))
    assert found.total == here.total
    with pytest.raises(PotentialError, match="large"):
        surveyor.evaluate(labelled, "toy:large", python=there)


def test_what_is_printed_there_stays_there(there: str) -> None:
    noisy = surveyor.open_potential("noisy:small", python=there)
    with pytest.warns(Notice, match="something to know"):
        (found,) = noisy.predict([molecule("H2O")])
    assert found.energy == surveyor.open_potential("toy:small").predict([molecule("H2O")])[0].energy
    with pytest.raises(PotentialError, match="ZeroDivisionError: no pair"):
        noisy.predict([Atoms("H")])
    assert len(noisy.predict([molecule("H2O")])) == 1
    with pytest.raises(PotentialError, match=r"ended with exit code 9: .*out of memory"):
        noisy.predict([molecule("H2")])
    with pytest.raises(PotentialError, match=r"the process of .* was ended"):
        noisy.predict([molecule("H2O")])


def test_mistakes_are_told_as_here(there: str, tmp_path: Path) -> None:
    with pytest.raises(PotentialError, match="no potential 'large' of the family 'toy'"):
        surveyor.open_potential("toy:large", python=there)
    toy = surveyor.open_potential("toy:small", python=there)
    with pytest.raises(PotentialError, match="no parameter matches 'nothing'"):
        make_features("tangent", Given(toy, parameters="nothing"))
    for name, text, message in (
        ("empty", "", "no message|ended with"),
        ("old", "old", r"surveyor 0\.0\.1 in the environment"),
        ("loud", "print('Welcome to this machine', flush=True)", "between two processes"),
    ):
        if text == "old":
            text = (
                "import sys; from surveyor.potentials.elsewhere.messages import *\n"
                "write(sys.stdout.buffer, Message({'protocol': 1, 'surveyor': '0.0.1'}))"
            )
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\n{text}\n")
        path.chmod(0o755)
        with pytest.raises(PotentialError, match=message):
            surveyor.open_potential("toy:small", python=path)


def process_is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


OPENS = """
    import os, sys, time
    import surveyor
    toy = surveyor.open_potential("toy:small", python=sys.executable)
    print(toy.process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_ends_with_whoever_opened_it(there: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(OPENS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as opener:
        assert opener.stdout is not None
        pid = int(opener.stdout.readline())
        assert process_is_there(pid)
        opener.send_signal(signal.SIGKILL)
    end = time.monotonic() + 20
    while process_is_there(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not process_is_there(pid)
    toy = surveyor.open_potential("toy:small", python=there)
    assert isinstance(toy, Remote)
    pid = toy.process.pid  # type: ignore[attr-defined]
    assert process_is_there(pid)
    del toy
    assert not process_is_there(pid)


def campaign_file(folder: Path, python: str, mood: Path) -> Path:
    write_structures(folder / "pool.extxyz", rattled(24, seed=1))
    write_structures(folder / "start.extxyz", emt_labelled(rattled(4, seed=2)))
    write_structures(folder / "test.extxyz", emt_labelled(rattled(6, seed=3)))
    content = {
        "pool": "pool.extxyz",
        "start": "start.extxyz",
        "test": "test.extxyz",
        "model": {"family": "toy", "name": "small", "python": python},
        "features": {"dim": 32},
        "selection": {"batch": 4},
        "labels": {"calculator": "ase.calculators.emt.EMT", "processes": 1},
        "training": {"command": program(mood), "threads": 1},
        "stop": {"rounds": 2},
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.slow
def test_a_campaign_that_is_killed_goes_on(there: str, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    file = campaign_file(folder, there, tmp_path / "mood")
    assert load_campaign(file).model == "toy:small"
    command = [sys.executable, "-m", "surveyor.cli", "run", str(file)]
    for stage in ("features", "rounds/001/training"):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
            while run.poll() is None and not (folder / "campaign" / stage).exists():
                time.sleep(0.01)
            run.kill()
            run.communicate()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = read_campaign(folder / "campaign")
    assert [each.labels for each in record.rounds] == [4, 8, 12]
    assert record.paid == 8
    journal = next((folder / "campaign" / "labels").glob("*.extxyz")).read_text()
    assert journal.count("Properties=") == 8
    tuned = surveyor.open_potential(f"toy:{folder / 'campaign/rounds/002/potential.model'}")
    assert isinstance(tuned, ToyPotential)
    assert tuned.fingerprint != surveyor.open_potential("toy:small").fingerprint
    kept = yaml.safe_load((folder / "campaign" / "config.yaml").read_text())
    assert (kept["model"], kept["python"]) == ("toy:small", there)
    check_config(
        load_campaign(file).model_copy(update={"python": Path("/moved/python")}), folder / "campaign"
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{family: toy}", "name"),
        ("{family: toy, name: small, pyton: x}", "pyton"),
        ("[toy, small]", "model"),
    ],
)
def test_a_model_by_parts_that_is_none(tmp_path: Path, model: str, message: str) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(f"pool: pool.extxyz\nmodel: {model}\n")
    with pytest.raises(ConfigError, match=message):
        load_campaign(path)


def bytes_of(message: Message) -> bytes:
    stream = io.BytesIO()
    messages.write(stream, message)
    return stream.getvalue()


@pytest.fixture
def charged() -> list[Atoms]:
    cell = bulk("NaCl", "rocksalt", 5.6)
    ion = molecule("CH3")
    ion.info |= {"total_charge": 1, "total_spin": 1}
    slab = molecule("H2O")
    slab.set_cell([5, 5, 9])
    slab.pbc = (True, True, False)
    return [cell, ion, slab]


def test_structures_arrive_as_they_were(charged: list[Atoms]) -> None:
    stream = io.BytesIO(bytes_of(Message({"do": "x"}, messages.packed(charged))))
    message = messages.read(stream)
    assert message is not None
    assert messages.read(stream) is None
    assert message.said == {"do": "x"}
    found = messages.unpacked(message.arrays)
    assert found == charged
    assert [atoms.info["total_charge"] for atoms in found] == [0, 1, 0]
    assert not any(has_labels(atoms) for atoms in found)
    assert messages.unpacked(messages.packed([])) == []


def test_what_is_no_message_is_refused(charged: list[Atoms]) -> None:
    whole = bytes_of(Message({"do": "x"}, messages.packed(charged)))
    header = {"said": {}, "arrays": [["a", "|O", [1]]]}
    odd = [
        whole[:5],
        whole[:-1],
        whole[:20],
        b"Traceback (most recent call last)",
        b"SVYR" + (2**31).to_bytes(4, "little"),
        *(
            b"SVYR" + len(text).to_bytes(4, "little") + text
            for text in (
                json.dumps(header).encode(),
                json.dumps(header | {"arrays": [["a", "<f8", [-1]]]}).encode(),
                json.dumps(header | {"arrays": [["a", "<f8", [2**40]]]}).encode(),
                b"[]",
                b"{",
                b"\xff",
            )
        ),
    ]
    for content in odd:
        with pytest.raises(PotentialError):
            messages.read(io.BytesIO(content))
    with pytest.raises(PotentialError, match="header of a message"):
        bytes_of(Message({"text": "x" * messages.HEADER_LIMIT}))
