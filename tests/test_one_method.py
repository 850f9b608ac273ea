"""One method an output: what it was begun with is written down before anything is paid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import rattled
from surveyor.cli import app
from surveyor.errors import LabellingError
from surveyor.labelling import CalculatorSpec, EngineLabeller, Ledger, LocalEngine, compute
from surveyor.labelling.manifest import NAME, begin
from surveyor.labelling.manual import ManualLabeller
from surveyor.structures import structure_id, write_structures
from surveyor.types import Labels

IDS = [letter * 32 for letter in "abcdef"]


def labeller(**settings: str) -> EngineLabeller:
    return EngineLabeller(CalculatorSpec("calculators:Stubborn", settings), LocalEngine(processes=1))


def test_the_same_method_and_more_structures_go_on(tmp_path: Path) -> None:
    first = labeller()
    assert begin(tmp_path, first, IDS[:2]) is first
    begin(tmp_path, labeller(), IDS[:3])
    content = json.loads((tmp_path / NAME).read_text())
    assert content["method"] == content["computed_by"] == first.method
    assert content["ids"] == IDS[:3]
    with pytest.raises(LabellingError, match="1 of them are not in the file"):
        begin(tmp_path, labeller(), IDS[1:])
    assert json.loads((tmp_path / NAME).read_text()) == content


@pytest.mark.parametrize("other", ["settings", "class", "people"])
def test_another_method_is_refused_by_name(tmp_path: Path, other: str) -> None:
    first = labeller(energy="1.0")
    begin(tmp_path, first, IDS)
    before = (tmp_path / NAME).read_bytes()
    second = {
        "settings": labeller(energy="2.0"),
        "class": EngineLabeller(CalculatorSpec("ase.calculators.emt.EMT"), LocalEngine(processes=1)),
        "people": ManualLabeller("PBE", tmp_path),
    }[other]
    with pytest.raises(LabellingError, match=f"begun with the method {first.method}; .* now {second.method}"):
        begin(tmp_path, second, IDS)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_model_file_that_changed_is_another_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "a.model"
    model.write_text("1")
    spec = CalculatorSpec("calculators:Weighted", {"model": "a.model"})
    begin(tmp_path / "out", EngineLabeller(spec, LocalEngine(processes=1)), IDS)
    model.write_text("2")
    with pytest.raises(LabellingError, match="begun with the method"):
        begin(tmp_path / "out", EngineLabeller(spec, LocalEngine(processes=1)), IDS)


def test_journals_of_an_earlier_version_go_on_under_their_name(tmp_path: Path) -> None:
    now = labeller()
    assert now.legacy is not None
    atoms = rattled(1, 0)[0]
    labels = compute(now.spec, atoms)
    assert isinstance(labels, Labels)
    Ledger(tmp_path / "labels", now.legacy.method).append(structure_id(atoms), atoms, labels)
    with pytest.raises(LabellingError, match="begun with the method stubborn-calculators-unversioned"):
        begin(tmp_path, labeller(energy="2.0"), IDS)
    for _ in range(2):  # without a manifest, and with the one that was written then
        assert begin(tmp_path, now, IDS).method == now.legacy.method
    with pytest.raises(LabellingError, match="begun with"):
        begin(tmp_path, labeller(energy="2.0"), IDS)


@pytest.mark.parametrize("content", ["", "{}", "[" * 5000, '{"schema_": 2}', "\0", '{"ids": ["../x"]}'])
def test_a_damaged_manifest_is_an_error_in_words(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    with pytest.raises(LabellingError, match="is damaged"):
        begin(tmp_path, labeller(), IDS)


def test_the_command_refuses_before_it_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.chdir(tmp_path)
    write_structures("pool.extxyz", rattled(2, 0))
    write_structures("other.extxyz", rattled(2, 1))
    write_structures("more.extxyz", [*rattled(2, 1), *rattled(2, 0)])
    act = f"open({str(tmp_path / 'calls')!r}, 'a').write('x')"

    def label(file: str, energy: str) -> tuple[int, str]:
        done = CliRunner().invoke(
            app,
            ["label", file, "-o", "out.extxyz", "--processes", "1", "-c", "calculators:Stubborn",
             "-s", f"act={act!r}", "-s", f"energy='{energy}'"],
        )  # fmt: skip
        return done.exit_code, done.output

    assert label("pool.extxyz", "1.0")[0] == 0
    for file, energy in (("pool.extxyz", "2.0"), ("other.extxyz", "1.0")):
        code, output = label(file, energy)
        assert code == 2, output
        assert "error:" in output
    assert Path("calls").stat().st_size == 2
    assert label("more.extxyz", "1.0")[0] == 0
    assert Path("calls").stat().st_size == 4
