"""Text that is not ours is shown letter by letter, and names from files name no other file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from molecules import rattled
from surveyor.cli import app
from surveyor.cli.console import plain_console
from surveyor.cli.reasons import print_reasons
from surveyor.errors import LabellingError
from surveyor.labelling import Ledger
from surveyor.labelling.manual import manual_method
from surveyor.labelling.names import check_method_name, is_structure_id, shown
from surveyor.structures import structure_id
from surveyor.types import Failure

REASONS = ("matrix [1, 2] is singular", "[/red] SCF failed", "[bold]x[/bold]", ":smile: [link=x]y", "a[b")


@pytest.mark.parametrize("reason", REASONS)
def test_reasons_are_shown_as_they_are(
    tmp_path: Path, reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "c"
    (folder / "labels").mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"schema": 1, "method": "m", "potential": "x"}))
    name = structure_id(rattled(1, 1)[0])
    Ledger(folder / "labels", "m").append_failure(name, Failure(reason, True))
    found = CliRunner().invoke(app, ["label", "held", str(folder)])
    assert found.exit_code == 0
    assert reason in found.stdout
    print_reasons("[/x]", "where", [(f"{reason}.out", reason)])
    assert capsys.readouterr().out.count(reason) == 2
    plain_console().print(reason)
    assert reason in capsys.readouterr().out


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    assert shown("a\x1b[31m\nb\udcff\u202e") == "a\\x1b[31m\\nb\\udcff\\u202e"


@given(st.text(max_size=60))
def test_shown_is_one_printable_line_and_goes_no_further(text: str) -> None:
    once = shown(text)
    assert once.isprintable()
    assert shown(once) == once


@given(st.text(max_size=60))
def test_a_method_name_stays_where_it_is(text: str) -> None:
    assert check_method_name(manual_method(text)) == manual_method(text)
    try:
        name = check_method_name(text)
    except LabellingError:
        return
    assert (Path("folder") / f"{name}.extxyz").name == f"{name}.extxyz"
    assert not name.startswith(".")


def test_ids_are_whole() -> None:
    assert is_structure_id("0" * 32)
    for other in ("", "missing", "0" * 31, "0" * 33, "g" * 32, "A" * 32, "0" * 32 + "\n", 5, None):
        assert not is_structure_id(other)
