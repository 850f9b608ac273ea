"""Inputs known by content, own potentials by checksum, damaged files by name; an old campaign."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from typer.testing import CliRunner

from conftest import emt_labelled, rattled
from surveyor.campaign import Campaign, Control, Plan, read_campaign
from surveyor.campaign.control import labels_on_record
from surveyor.campaign.inputs import INPUTS, Source, check_inputs, content_of
from surveyor.campaign.own_potentials import open_own, save_own
from surveyor.campaign.records import read_picks
from surveyor.cli import app
from surveyor.config import build_plan, load_campaign
from surveyor.config.resume import check_config, keep_config
from surveyor.errors import CampaignError, LabellingError, Notice
from surveyor.labelling import CalculatorSpec, compute
from surveyor.labelling.ledger import Ledger
from surveyor.potentials.mace import MacePotential
from surveyor.report import figures, read_contents
from surveyor.structures import StructureFile, labels_of, structure_id, with_labels, write_structures
from surveyor.types import Labels

EMT = CalculatorSpec("ase.calculators.emt.EMT")
OLD = Path(__file__).parent / "campaigns" / "first-version.tar.xz"


class Refit:
    """A trainer that costs nothing: it fits the reference energies."""

    def __call__(self, start: Any, train: Sequence[Atoms], valid: Sequence[Atoms], **_: Any) -> MacePotential:
        from surveyor.potentials.references import refit_reference_energies

        return start.with_reference_shifts(refit_reference_energies(start, [*train, *valid]))


def campaign_file(folder: Path, model: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, frames in (
        ("pool", rattled(12, seed=1)),
        ("start", emt_labelled(rattled(4, seed=2))),
        ("test", emt_labelled(rattled(5, seed=3))),
    ):
        write_structures(folder / f"{name}.extxyz", frames)
    shutil.copy(model, folder / "start.model")
    settings = {
        "pool": "pool.extxyz", "start": "start.extxyz", "test": "test.extxyz", "model": "start.model",
        "features": {"dim": 16}, "selection": {"batch": 3}, "labels": {"calculator": EMT.path},
        "training": {"updates": 4, "quality": "quick"}, "stop": {"rounds": 2},
    }  # fmt: skip
    path = folder / "campaign.yaml"
    path.write_text(json.dumps(settings | changes))
    return path


def plan_of(path: Path) -> Plan:
    return replace(build_plan(load_campaign(path)), trainer=Refit())


def opened(path: Path, method: str = "emt") -> Campaign:
    return Campaign(path.parent / "campaign", plan_of(path), method)


def one_round(campaign: Campaign) -> None:
    for name, atoms in campaign.ask().items():
        campaign.tell(name, compute(EMT, atoms))
    campaign.advance()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Path:
    """A project whose campaign has a round of labels."""
    path = campaign_file(tmp_path_factory.mktemp("template") / "project", model_file)
    campaign = opened(path)
    keep_config(load_campaign(path), campaign.folder)
    one_round(campaign)
    one_round(campaign)
    return path.parent


@pytest.fixture
def begun(tmp_path: Path, template: Path) -> Path:
    """The file of a campaign of one's own that has a round of labels."""
    shutil.copytree(template, tmp_path / "project")
    return tmp_path / "project" / "campaign.yaml"


def saved_again(path: Path) -> None:
    write(path, read(path, ":"), format="extxyz")


def packed(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    config = path.parent / "campaign.yaml"
    config.write_text(config.read_text().replace(path.name, path.name + ".gz"))


def touched(path: Path) -> None:
    os.utime(path, (1e9, 1e9))


@pytest.mark.parametrize("change", [saved_again, packed, touched])
@pytest.mark.parametrize("role", ["pool", "start", "test"])
def test_the_same_content_in_another_coat_goes_on(change: Any, role: str, begun: Path) -> None:
    change(begun.parent / f"{role}.extxyz")
    check_config(load_campaign(begun), begun.parent / "campaign")
    assert len(opened(begun).ask()) == 3


def test_content_does_not_depend_on_digits_beyond_those_of_extxyz() -> None:
    rng = np.random.default_rng(0)
    frames = emt_labelled(rattled(6, seed=9))
    for atoms in frames:
        atoms.info["REF_energy"] = float(rng.normal() * 1e4)
        atoms.arrays["REF_forces"] = rng.normal(size=(len(atoms), 3))
    rounded = [
        with_labels(a, Labels(round(a.info["REF_energy"], 8), a.arrays["REF_forces"].round(8)))
        for a in frames
    ]
    assert content_of(rounded).digest == content_of(frames).digest
    rounded[2].info["REF_energy"] += 1e-4
    assert content_of(rounded).digest != content_of(frames).digest


def another(frames: list[Atoms]) -> list[Atoms]:
    return emt_labelled(rattled(len(frames), seed=44))


def longer(frames: list[Atoms]) -> list[Atoms]:
    return [*frames, *emt_labelled(rattled(7, seed=45))]


def other_energy(frames: list[Atoms]) -> list[Atoms]:
    frames[3].info["REF_energy"] += 0.01
    return frames


def swapped(frames: list[Atoms]) -> list[Atoms]:
    return [frames[0], frames[2], frames[1], *frames[3:]]


@pytest.mark.parametrize(
    ("role", "change", "says"),
    [
        ("test", another, r"test.extxyz \(test\): 5 frames as before; frame 0 differs"),
        ("test", longer, r"5 frames then, 12 now; the first 5 are the same"),
        ("test", other_energy, "5 frames as before; frame 3 differs"),
        ("start", other_energy, r"start.extxyz \(start\): 4 frames as before; frame 3 differs"),
        ("start", lambda frames: frames[:3], "4 frames then, 3 now; the first 3 are the same"),
        ("pool", swapped, r"pool.extxyz \(pool\): 12 frames as before; frame 1 differs"),
        ("pool", longer, r"(?s)12 frames then, 19 now.*surveyor extend .* --pool FILE"),
    ],
)
def test_a_changed_file_is_refused_before_anything_is_computed(
    role: str, change: Any, says: str, begun: Path
) -> None:
    path = begun.parent / f"{role}.extxyz"
    write_structures(path, change(read(path, ":")))
    before = sorted((begun.parent / "campaign" / "rounds").rglob("*"))
    with pytest.raises(CampaignError, match=says):
        opened(begun)
    assert sorted((begun.parent / "campaign" / "rounds").rglob("*")) == before


def test_a_replaced_file_of_equal_size_and_time_is_seen(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "pool.extxyz", rattled(5, seed=1))
    os.utime(path, (1e9, 1e9))
    check_inputs(tmp_path, {"pool": Source(StructureFile(path), path)})
    text = path.read_text()
    digits = next(word for word in text.split() if word.count(".") == 1 and len(word) > 9)
    path.write_text(text.replace(digits, digits[:-5] + ("11111" if digits[-5:] != "11111" else "22222"), 1))
    os.utime(path, (1e9, 1e9))
    with pytest.raises(CampaignError, match="frame 0 differs"):
        check_inputs(tmp_path, {"pool": Source(StructureFile(path), path)})


def test_an_unchanged_pool_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_structures(tmp_path / "pool.extxyz", rattled(5, seed=1))
    monkeypatch.setattr("surveyor.campaign.inputs.SETTLED", -1.0)
    check_inputs(tmp_path, {"pool": Source(StructureFile(path), path)})
    never = (1 / 0 for _ in range(1))
    check_inputs(tmp_path, {"pool": Source(never, path)})
    with pytest.raises(ZeroDivisionError):  # another file of this name
        check_inputs(tmp_path, {"pool": Source(never, write_structures(path, rattled(5, seed=1)))})


def test_a_campaign_moves_with_its_inputs(begun: Path, tmp_path: Path) -> None:
    keep_config(load_campaign(begun), begun.parent / "campaign")
    moved = (begun.parent).rename(tmp_path / "elsewhere") / "campaign.yaml"
    check_config(load_campaign(moved), moved.parent / "campaign")
    assert len(opened(moved).ask()) == 3
    kept = load_campaign(moved.parent / "campaign" / "config.yaml")  # what export and doctor read
    assert kept.pool.samefile(moved.parent / "pool.extxyz")
    assert Path(kept.model).samefile(moved.parent / "start.model")


def test_a_test_set_that_appears_or_goes_is_another_setting(begun: Path) -> None:
    keep_config(load_campaign(begun), begun.parent / "campaign")
    content = json.loads(begun.read_text())
    del content["test"]
    begun.write_text(json.dumps(content))
    with pytest.raises(CampaignError, match="started with test: 'a file', the file now says None"):
        check_config(load_campaign(begun), begun.parent / "campaign")


# ---- own potentials ------------------------------------------------------------------------------------


def test_a_potential_is_opened_only_if_it_is_the_one_that_was_saved(begun: Path, model_file: Path) -> None:
    plan = plan_of(begun)
    folder = begun.parent / "campaign" / "rounds" / "001"
    assert open_own(folder, plan.open_potential).fingerprint
    opened_files: list[Path] = []
    shutil.copy(model_file, folder / "potential.model")
    for record in ({"seconds": 1.0}, json.loads((folder / "training.json").read_text())):
        (folder / "training.json").write_text(json.dumps(record))
        with pytest.raises(
            CampaignError, match=r"001/potential.model is not the file that this campaign saved"
        ):
            open_own(folder, opened_files.append)  # type: ignore[arg-type]
    assert opened_files == []  # nothing was unpickled
    (folder / "potential.model").unlink()
    with pytest.raises(CampaignError, match="there is no"):
        open_own(folder, plan.open_potential)


def test_a_campaign_refuses_to_train_on_from_a_foreign_potential(begun: Path, model_file: Path) -> None:
    shutil.copy(model_file, begun.parent / "campaign" / "rounds" / "001" / "potential.model")
    campaign = Campaign(begun.parent / "campaign", replace(plan_of(begun), continued=True), "emt")
    for name, atoms in campaign.ask().items():
        campaign.tell(name, compute(EMT, atoms))
    with pytest.raises(CampaignError, match="is not the file that this campaign saved"):
        campaign.advance()


def test_a_saved_potential_has_its_record_before_it(tmp_path: Path, potential: MacePotential) -> None:
    save_own(potential, tmp_path, {"seconds": 2.0})
    assert json.loads((tmp_path / "training.json").read_text()).keys() == {"seconds", "sha256"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["potential.model", "training.json"]


# ---- damaged files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "a list, not a mapping"),
        ("{}", "no list of picks"),
        ('{"picks": [3]}', "pick 0 has the id None"),
        ('{"picks": [{"id": "../../etc/passwd", "index": 0}]}', "pick 0 has the id '../../etc"),
        (f'{{"picks": [{{"id": "{"a" * 32}", "index": -1}}]}}', "pick 0 has the index -1"),
        (f'{{"picks": [{{"id": "{"a" * 32}", "index": true}}]}}', "pick 0 has the index True"),
        (f'{{"picks": [{{"id": "{"a" * 32}", "index": 0}}, {{"id": "{"a" * 32}", "index": 1}}]}}', "pick 1"),
        ('{"picks": ', "cannot be read"),
    ],
)
def test_damaged_picks_are_named(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "selection.json").write_text(content)
    with pytest.raises(CampaignError, match=says) as caught:
        read_picks(tmp_path / "selection.json")
    assert "selection.json" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "state.json",
            '{"schema": 1, "method": "../../evil", "potential": "p"}',
            "state.json: the method '../../evil' cannot name a file",
        ),
        ("state.json", '{"schema": 1, "potential": "p"}', "state.json: the method None cannot name a file"),
        ("state.json", "[1]", "state.json is damaged: a list"),
        ("rounds/001/metrics.json", "[]", "metrics.json is damaged: a list"),
        ("rounds/001/metrics.json", '{"number": 1, "labels": "many", "paid": 1}', "labels: Input should be"),
        ("rounds/001/metrics.json", '{"number": 0, "labels": 1, "paid": 1}', "it says round 0"),
    ],
)
def test_damaged_records_are_named(name: str, content: str, says: str, begun: Path) -> None:
    (begun.parent / "campaign" / name).write_text(content)
    with pytest.raises((CampaignError, LabellingError), match=says):
        read_campaign(begun.parent / "campaign")


def test_a_damaged_record_of_inputs_is_named(begun: Path) -> None:
    (begun.parent / "campaign" / INPUTS).write_text('{"files": {"pool": 3}}')
    with pytest.raises(CampaignError, match=r"inputs.json holds no record of inputs"):
        opened(begun)


# ---- the control arm -----------------------------------------------------------------------------------


def test_lent_labels_keep_stress_cost_and_doubt(tmp_path: Path) -> None:
    atoms = Atoms("C2", [[0, 0, 0], [0, 0, 1.4]], cell=[3, 3, 3], pbc=True)
    labels = Labels(-3.0, np.ones((2, 3)), np.arange(6.0) / 100, core_seconds=12.5, doubt="not converged")
    ledger = Ledger(tmp_path, "emt")
    ledger.append(structure_id(atoms), atoms, labels)
    found = labels_on_record(Ledger(tmp_path, "emt").structures[structure_id(atoms)])
    np.testing.assert_allclose(found.stress, labels.stress)
    assert (found.energy, found.core_seconds, found.doubt) == (-3.0, 12.5, "not converged")


# ---- a campaign of the first version -------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A campaign that the first version made: one round of three EMT labels, and a control arm."""
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "project" / "campaign.yaml"


def test_an_old_campaign_goes_on_with_every_label(old: Path) -> None:
    folder = old.parent / "campaign"
    method = read_campaign(folder).state["method"]
    journal = read(folder / "labels" / f"{method}.extxyz", ":")
    names = [atoms.info["surveyor_id"] for atoms in journal]
    assert [structure_id(atoms) for atoms in journal] == names
    check_config(load_campaign(old), folder)  # the files are elsewhere now
    plan = replace(plan_of(old), stopping=plan_of(old).stopping.model_copy(update={"rounds": 2}))
    with pytest.warns(Notice) as said:
        campaign = Campaign(folder, plan, method)
    assert sum("kept no record of its inputs" in str(w.message) for w in said) == 1
    assert sum("rounds/001/potential.model" in str(w.message) for w in said) == 1
    assert list(campaign.ledger.structures) == names
    for atoms in journal:
        kept = labels_of(campaign.ledger.structures[atoms.info["surveyor_id"]])
        assert kept.energy == atoms.info["REF_energy"]
        np.testing.assert_array_equal(kept.forces, atoms.arrays["REF_forces"])
    again = Campaign(folder, plan, method)  # no more notices: they would be errors here
    picks = read_picks(folder / "rounds" / "001" / "selection.json")
    assert set(picks) == set(names)
    assert open_own(folder / "rounds" / "001", plan.open_potential).fingerprint
    one_round(again)
    assert [record.labels for record in again.rounds] == [4, 7, 10]
    control = Control(again)
    assert set(control.ledger.structures) <= set(list(control.order)[:5])  # its order is what it was
    assert figures(read_contents(folder))["labels"]["paid"] == 6


def test_the_command_goes_on_with_an_old_campaign(old: Path) -> None:
    """Its method has the name that it had; nothing is labelled again, and the page is written."""
    folder = old.parent / "campaign"
    before = {path: path.read_bytes() for path in folder.glob("**/labels/*.extxyz")}
    done = CliRunner().invoke(app, ["run", str(old), "-o", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["labels"] == 3
    assert {path: path.read_bytes() for path in folder.glob("**/labels/*.extxyz")} == before
    assert load_campaign(folder / "config.yaml").pool.samefile(old.parent / "pool.extxyz")
    assert len(before) == 2


def test_an_old_campaign_whose_test_set_was_replaced_is_refused(old: Path) -> None:
    path = old.parent / "test.extxyz"
    method = read_campaign(old.parent / "campaign").state["method"]
    frames = read(path, ":")
    write_structures(path, [*frames[:2], *emt_labelled(rattled(3, seed=8))])
    with (
        pytest.warns(Notice, match="checksums"),
        pytest.raises(CampaignError, match=r"test.extxyz \(test\): 5 frames then, 5 now; frame 2 differs"),
    ):
        Campaign(old.parent / "campaign", plan_of(old), method)
