"""The page of extensions: its own rule, feature map, labeller and family do what it says they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from typer.testing import CliRunner

import surveyor
from conftest import rattled
from pages import EXTENDING, entry_points_of, extended, files_of  # noqa: F401 - a fixture among them
from surveyor.campaign import read_campaign
from surveyor.cli import app
from surveyor.config import load_campaign
from surveyor.errors import ConfigError
from surveyor.features.registry import Given, make_features
from surveyor.labelling import CalculatorSpec, compute
from surveyor.structures import read_structures, structure_id, with_labels, write_structures
from surveyor.testing import check_potential
from surveyor.types import Labels

pytestmark = pytest.mark.usefixtures("extended")

MOLECULES = ("H2O", "CH4", "CH3OH")


def pool(n: int = 16) -> list[Atoms]:
    return rattled(n, seed=1, names=MOLECULES)


def springs(structures: list[Atoms], k: float = 2.0) -> list[Atoms]:
    """Labelled by the page's own calculator."""
    spec = CalculatorSpec("my_labels:Springs", {"k": k})
    found = [compute(spec, atoms) for atoms in structures]
    assert all(isinstance(labels, Labels) for labels in found)
    return [with_labels(atoms, labels) for atoms, labels in zip(structures, found, strict=True)]


def surveyor_says(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_each_extension_is_one_short_file_and_a_line() -> None:
    files = files_of(EXTENDING)
    assert sorted(files) == ["my_features.py", "my_labels.py", "my_rules.py", "pairs_family.py"]
    assert all(len(code.splitlines()) < 100 for code in files.values())
    assert all(len(own) == 1 for own in entry_points_of(EXTENDING).values())


def test_the_family_keeps_the_contract_and_its_digits(tmp_path: Path) -> None:
    potential = surveyor.open_potential("pairs:random")
    structures = rattled(6, seed=1, names=MOLECULES)
    assert "tangents" in check_potential(potential, structures)
    assert len(surveyor.select(structures, None, "pairs:random", 2, dim=16)) == 2


def test_the_labeller_has_the_forces_of_its_energy() -> None:
    (atoms,) = rattled(1, seed=4, names=("CH4",))
    h, slopes = 1e-5, np.zeros((len(atoms), 3))
    for place in np.ndindex(slopes.shape):
        moved = [atoms.copy(), atoms.copy()]
        for sign, copy in zip((1, -1), moved, strict=True):
            copy.positions[place] += sign * h
        up, down = (labelled.info["REF_energy"] for labelled in springs(moved))
        slopes[place] = (up - down) / (2 * h)
    np.testing.assert_allclose(springs([atoms])[0].arrays["REF_forces"], -slopes, atol=1e-6)


def test_rule_map_and_family_select_by_name_and_by_import_path(tmp_path: Path) -> None:
    file, store = write_structures(tmp_path / "pool.extxyz", pool()), tmp_path / "f.zarr"
    command = ["select", file, "-m", "pairs:random", "-n", 4, "--json"]
    named = json.loads(surveyor_says(*command, "--features", "distances", "--rule", "least-alike"))
    path = ["--features", "my_features:Distances", "--rule", "my_rules:LeastAlike"]
    assert json.loads(surveyor_says(*command, *path))["indices"] == named["indices"]
    told = json.loads(surveyor_says("embed", file, "-o", store, "--features", "distances", "--json"))
    assert told == {
        "structures": 16,
        "dim": 16,
        "settings": {"features": "distances", "bins": 16, "cutoff": 6.0},
    }
    kept = surveyor_says(*command, "--features", "distances", "--rule", "least-alike", "--store", store)
    assert json.loads(kept)["indices"] == named["indices"]
    tangent = json.loads(surveyor_says(*command, "--dim", 16, "--rule", "my_rules:Longest"))
    rows = make_features("tangent", Given(surveyor.open_potential("pairs:random"), dim=16))(pool())
    longest = np.argsort(-np.linalg.norm(rows.values, axis=1), kind="stable")[:4]
    assert sorted(tangent["indices"]) == sorted(longest.tolist())


def test_all_four_go_through_a_campaign_together(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    write_structures(folder / "pool.extxyz", pool())
    write_structures(folder / "test.extxyz", springs(rattled(6, seed=3, names=MOLECULES)))
    content: dict[str, Any] = {
        "pool": "pool.extxyz",
        "test": "test.extxyz",
        "model": "pairs:random",
        "features": {"kind": "distances", "settings": {"bins": 24}},
        "selection": {"rule": "my_rules:LeastAlike", "batch": 4},
        "labels": {"calculator": "my_labels:Springs", "settings": {"k": 2.0}, "processes": 1},
        "training": {"updates": 100, "learning_rate": 0.05},
        "stop": {"rounds": 2},
    }
    (folder / "campaign.yaml").write_text(yaml.safe_dump(content))
    surveyor_says("run", folder / "campaign.yaml")
    rounds = read_campaign(folder / "campaign").rounds
    assert [record.labels for record in rounds] == [0, 4, 8]
    assert rounds[2].force_mae is not None
    assert rounds[0].force_mae is not None
    assert rounds[2].force_mae < rounds[0].force_mae
    tuned = surveyor.open_potential(f"pairs:{folder / 'campaign' / 'rounds' / '002' / 'potential.model'}")
    assert tuned.fingerprint != surveyor.open_potential("pairs:random").fingerprint
    trained = {structure_id(a): a for a in read_structures(folder / "campaign/rounds/002/train.extxyz")}
    for atoms in springs(list(trained.values())):
        assert trained[structure_id(atoms)].info["REF_energy"] == pytest.approx(atoms.info["REF_energy"])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "selection: {rule: 'my_rules:Longst'}",
            "rule = 'my_rules:Longst' cannot be imported: AttributeError",
        ),
        ("selection: {rule: 'my_labels:Springs'}", "expected: a class derived from Rule"),
        ("selection: {rule: least-alik}", "did you mean 'least-alike'"),
        ("features: {kind: 'no_such_module:Map'}", "kind = 'no_such_module:Map' cannot be imported"),
        ("features: {kind: 'math:pi'}", r"kind = 'math:pi' is 3.14"),
        ("features: {kind: 'builtins:dict'}", "is <class 'dict'>"),
        ("features: {kind: 'this_exits:Map'}", "cannot be imported: SystemExit"),
        ("features: {kind: distance}", "did you mean 'distances'"),
        ("features: {kind: distances, settings: {bin: 3}}", "did you mean 'bins'"),
        ("features: {kind: tangent, settings: {potential: 3}}", "settings = 'potential'"),
    ],
)
def test_mistakes_are_named_before_anything_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, message: str
) -> None:
    (tmp_path / "this_exits.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "campaign.yaml"
    file.write_text(f"pool: pool.extxyz\n{section}\n")
    with pytest.raises(ConfigError, match=message):
        load_campaign(file)


def test_settings_of_another_type_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"features 'soap' with {'sigma': \[1\]}: '<=' not supported"):
        make_features("soap", Given(elements=(1,)), {"sigma": [1]})


def test_help_survives_a_rule_that_cannot_be_imported(extended: Path) -> None:  # noqa: F811
    (extended / "my_rules.py").write_text("import no_such_package\n")
    shown = " ".join(surveyor_says("select", "--help").replace("│", " ").split())
    assert "rule = 'least-alike' cannot be imported" in shown
    assert "lcmd:" in shown
