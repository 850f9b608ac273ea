"""`surveyor evaluate` and `surveyor.evaluate`: errors by group, worst frames, pictures, levels of theory."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import surveyor
import toy_family
from conftest import emt_labelled, rattled
from surveyor.errors import Notice, PotentialError, StructureError
from surveyor.metrics import errors
from surveyor.potentials.mace import MacePotential
from surveyor.structures import with_labels, write_structures
from surveyor.types import Labels
from test_cli import call, refused
from tiny import random_crystal, tiny_mace

# Energies of a potential that nobody trained lie anywhere, which is said; one test is about that.
pytestmark = pytest.mark.filterwarnings("ignore::surveyor.errors.Notice")


@pytest.fixture(scope="module")
def frames() -> list[Atoms]:
    """Labelled frames of four reactions; the kind of some is named."""
    labelled = emt_labelled(rattled(12, seed=3))
    for atoms in labelled[:5]:
        atoms.info["config_type"] = "near"
    return labelled


def test_errors_are_those_of_hand_in_all_and_by_group(frames: list[Atoms], potential: MacePotential) -> None:
    found = surveyor.evaluate(frames, potential)
    whole = errors(potential, frames)
    assert found.total.frames == len(found) == 12
    assert found.total.energy_rmse == pytest.approx(whole.energy_rmse)
    assert list(found.groups) == ["config_type", "reaction"]
    assert {name: own.frames for name, own in found.groups["config_type"].items()} == {"(none)": 7, "near": 5}
    water = [atoms for atoms in frames if atoms.info["reaction"] == "H2O"]
    own = found.groups["reaction"]["H2O"]
    difference = np.concatenate(
        [
            (p.forces - a.arrays["REF_forces"]).ravel()
            for p, a in zip(potential.predict(water), water, strict=True)
        ]
    )
    assert own.force_mae == pytest.approx(1e3 * np.abs(difference).mean(), rel=1e-4)
    assert own.force_rmse == pytest.approx(1e3 * np.sqrt((difference**2).mean()), rel=1e-4)
    worst = found.worst(3, of="energy")
    assert worst[0] == int(whole.energy_each.argmax())
    assert len(worst) == 3
    assert (own.stress_frames, own.stress_mae) == (0, None)
    assert repr(found).startswith("Evaluation(12 frames: energy MAE ")


def test_the_command_says_the_same_as_the_library(
    tmp_path: Path, frames: list[Atoms], potential: MacePotential, model_file: Path
) -> None:
    one = write_structures(tmp_path / "one.extxyz", frames[:8])
    two = write_structures(tmp_path / "two.extxyz", frames[8:])
    output, plot = tmp_path / "evaluated.extxyz", tmp_path / "parity.svg"
    command = ("evaluate", one, two, "-m", model_file, "-o", output, "--plot", plot, "--worst", 3)
    printed = json.loads(call(*command, "--json"))
    found = surveyor.evaluate([one, two], model_file)
    assert printed["total"]["force_mae"] == pytest.approx(found.total.force_mae)
    assert printed["by_reaction"].keys() == {"H2O", "NH3", "CH4", "CH3OH"}
    assert printed["by_config_type"]["near"]["frames"] == 5
    first = printed["worst"]["force"][0]
    index = found.worst(1)[0]
    assert (
        (first["file"], first["frame"]) == found.places[index] == (str(one if index < 8 else two), index % 8)
    )
    written = ase.io.read(output, ":")
    for atoms, told in zip(written, potential.predict(frames), strict=True):
        np.testing.assert_allclose(atoms.arrays["surveyor_forces"], told.forces, atol=1e-5)
        assert atoms.info["surveyor_energy"] == pytest.approx(told.energy, abs=1e-4)
    assert "<svg" in plot.read_text()
    table = call(*command)  # over what it wrote itself
    assert "errors on 12 frames" in table
    assert "reaction CH3OH" in table
    assert table.count("two.extxyz") + table.count("one.extxyz") == 6
    # what was predicted is no label of the frames that are written
    again = json.loads(call("evaluate", output, "-m", model_file, "--json"))
    assert again["total"]["force_mae"] == pytest.approx(printed["total"]["force_mae"], rel=1e-4)


def test_constants_between_levels_of_theory(frames: list[Atoms], potential: MacePotential) -> None:
    far = []
    for atoms, told in zip(frames, potential.predict(frames), strict=True):
        constant = sum({1: 3.0, 6: -7.0, 7: 2.0, 8: 5.0}[z] for z in atoms.numbers.tolist())
        far.append(with_labels(atoms, Labels(told.energy + constant, told.forces)))
    with pytest.warns(Notice, match="of two levels of theory"):
        plain = surveyor.evaluate(far, potential)
    assert plain.total.energy_mae > 500
    found = surveyor.evaluate(far, potential, offsets=True)
    assert found.total.energy_mae < 0.1
    assert found.offsets == pytest.approx({"H": 3.0, "C": -7.0, "N": 2.0, "O": 5.0}, abs=1e-2)
    labels, predicted = found.parity()["energy, eV/atom"]
    np.testing.assert_allclose(predicted, labels, atol=1e-3)


def test_stress_counts_where_it_is_labelled_and_predicted(tmp_path: Path) -> None:
    potential = tiny_mace()
    rng = np.random.default_rng(0)
    crystals = [random_crystal(rng) for _ in range(3)]
    labelled = [
        with_labels(atoms, Labels(told.energy, told.forces, told.stress + 0.002 if number else None))
        for number, (atoms, told) in enumerate(zip(crystals, potential.predict(crystals), strict=True))
        if told.stress is not None
    ]
    found = surveyor.evaluate(labelled, potential)
    assert found.total.stress_frames == 2
    assert found.total.stress_mae == pytest.approx(2.0)
    assert list(found.parity())[-1] == "stress, eV/Å³"
    potential.save(tmp_path / "tiny.model")
    file = write_structures(tmp_path / "crystals.extxyz", labelled)
    picture = tmp_path / "parity.png"
    table = call("evaluate", file, "-m", tmp_path / "tiny.model", "--plot", picture)
    assert "stress: of 2 frames" in table
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_head_and_another_family(
    tmp_path: Path, frames: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_structures(tmp_path / "frames.extxyz", frames)
    tiny_mace(heads=("low", "high")).save(tmp_path / "heads.model")
    assert "--head" in call("evaluate", "--help")
    message = refused("evaluate", file, "-m", tmp_path / "heads.model", "--head", "middle")
    assert "low" in message
    assert json.loads(call("evaluate", file, "-m", tmp_path / "heads.model", "--head", "high", "--json"))
    toy_family.install(tmp_path, monkeypatch)
    found = json.loads(call("evaluate", file, "-m", "toy:small", "--json"))
    own = errors(toy_family.FAMILY.open("small", device=None, dtype=None, head=None), frames)
    assert found["total"]["energy_mae"] == pytest.approx(own.energy_mae)


class NotNumbers(toy_family.ToyPotential):
    def predict(self, structures: list[Atoms]) -> list[Labels]:
        found = super().predict(structures)
        return [*found[:-1], Labels(float("nan"), found[-1].forces)]


def test_bad_input(tmp_path: Path, frames: list[Atoms], potential: MacePotential, model_file: Path) -> None:
    file = write_structures(tmp_path / "frames.extxyz", frames)
    bare = write_structures(tmp_path / "bare.extxyz", [*frames[:2], *rattled(1, seed=1)])
    assert "bare.extxyz, frame 2: no REF_energy" in refused("evaluate", bare, "-m", model_file)
    assert "no such file" in refused("evaluate", tmp_path / "no.extxyz", "-m", model_file)
    assert "ends in .svg or .png" in refused("evaluate", file, "-m", model_file, "--plot", tmp_path / "a.pdf")
    assert "what the command reads" in refused("evaluate", file, "-m", model_file, "-o", file)
    foreign = tmp_path / "drawn.svg"
    foreign.write_text("<svg>mine</svg>")
    assert "Surveyor did not write it" in refused("evaluate", file, "-m", model_file, "--plot", foreign)
    assert foreign.read_text() == "<svg>mine</svg>"
    helium = with_labels(Atoms("He"), Labels(0.0, np.zeros((1, 3))))
    strange = write_structures(tmp_path / "strange.extxyz", [*frames, helium])
    assert "frame 12: element He is unknown" in refused("evaluate", strange, "-m", model_file)
    for wrong, match in (
        (molecule("H2O"), "Atoms where structures"),
        (3, "int where structures"),
        ([1], "structure 0: int"),
    ):
        with pytest.raises(StructureError, match=match):
            surveyor.evaluate(wrong, potential)
    with pytest.raises(StructureError, match="no frame to evaluate"):
        surveyor.evaluate([], potential)
    with pytest.raises(PotentialError, match="int where a potential"):
        surveyor.evaluate(frames, 3)
    strange_toy = NotNumbers(toy_family.Radial().double())
    with pytest.raises(PotentialError, match="structure 11: the toy potential predicts NaN"):
        surveyor.evaluate(frames, strange_toy)
