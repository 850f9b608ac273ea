"""Files that Surveyor writes: permissions, links, and files of others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write
from typer.testing import CliRunner

from conftest import rattled
from surveyor.cli.app import app
from surveyor.errors import Notice, StructureError, SurveyorError
from surveyor.structures import atomic_write, read_structures, with_labels, write_structures
from surveyor.structures.writing import GENERATOR, check_output, check_place
from surveyor.types import Labels


@pytest.fixture(params=[0o022, 0o027, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def text(path: Path, content: str) -> Path:
    return atomic_write(path, lambda file: file.write(content))


def test_new_files_honour_the_umask(tmp_path: Path, umask: int) -> None:
    assert mode(text(tmp_path / "a.txt", "new")) == 0o666 & ~umask
    assert mode(write_structures(tmp_path / "a.extxyz", [molecule("H2")])) == 0o666 & ~umask
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "a.extxyz"}


@pytest.mark.parametrize("kept", [0o600, 0o664, 0o444])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(kept)
    text(path, "new")
    assert (path.read_text(), mode(path)) == ("new", kept)


def test_a_planted_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o640)
    for target in (victim, tmp_path / "not-there"):
        path = tmp_path / "out.txt"
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        text(path, "new")
        assert not path.is_symlink()
        assert path.read_text() == "new"
    assert (victim.read_text(), mode(victim)) == ("precious", 0o640)
    assert not (tmp_path / "not-there").exists()


def test_a_file_that_cannot_take_its_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SurveyorError, match="could not write"):
        text(tmp_path / "folder", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_files_of_others_are_not_replaced_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    write(path, molecule("H2O"))
    foreign = path.read_bytes()
    with pytest.raises(StructureError, match="Surveyor did not write it") as caught:
        check_output(path)
    assert "--overwrite" in str(caught.value)
    assert path.read_bytes() == foreign
    check_output(path, overwrite=True)
    link = tmp_path / "b.extxyz"
    for target in (path, tmp_path / "nothing"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(StructureError, match="is a link"):
            check_output(link)
    os.mkfifo(tmp_path / "c.extxyz")
    with pytest.raises(StructureError, match="no plain file"):
        check_output(tmp_path / "c.extxyz")


def test_files_of_ours_and_empty_ones_are_replaced(tmp_path: Path) -> None:
    for name, frames in {
        "new": None,
        "empty": [],
        "labelled": [with_labels(molecule("H2"), Labels(0.0, np.zeros((2, 3))))],
        "column": [molecule("H2")],
    }.items():
        path = tmp_path / f"{name}.extxyz"
        if name == "column":
            frames[0].arrays["surveyor_atom_share"] = np.ones(2)
        if frames is not None:
            write_structures(path, frames)
        check_output(path)
    write(tmp_path / "old.extxyz", molecule("H2"))
    (tmp_path / "old.ledger").mkdir()  # the labels that an output was made of lie beside it
    check_output(tmp_path / "old.extxyz")


def test_an_input_is_no_output_whatever_one_says(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "a.extxyz", [molecule("H2")])
    for name in (path, tmp_path / "x" / ".." / "a.extxyz"):
        with pytest.raises(StructureError, match="would be replaced"):
            check_output(name, overwrite=True, inputs=[None, path])


def test_pages(tmp_path: Path) -> None:
    for content, ours in {
        f"<html><head>{GENERATOR}": True,
        "<title>campaign · Surveyor</title>": True,
        "# Results\n\n3 runs, from the raw records by `surveyor benchmark report`.": True,
        "": True,
        "<html>my homepage": False,
    }.items():
        page = tmp_path / "page.html"
        page.write_text(content)
        if ours:
            check_place(page)
        else:
            with pytest.raises(StructureError, match="did not write"):
                check_place(page)
            check_place(page, overwrite=True)


def call(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_select_asks_before_it_replaces_and_can_be_repeated(
    tmp_path: Path, pool_file: Path, model_file: Path
) -> None:
    picks = tmp_path / "picks.extxyz"
    command = ("select", pool_file, "-n", "3", "--model", model_file, "--dim", "16", "-o")
    write(picks, molecule("H2O"))
    assert "--overwrite" in call(*command, picks, code=2)
    assert len(list(read_structures(picks))) == 1
    call(*command, picks, "--overwrite")
    call(*command, picks)
    assert len(list(read_structures(picks))) == 3
    before = pool_file.read_bytes()
    assert "would be replaced" in call(*command, pool_file, "--overwrite", code=2)
    assert pool_file.read_bytes() == before


def test_label_asks_before_it_replaces_and_can_be_repeated(tmp_path: Path) -> None:
    picks = write_structures(tmp_path / "picks.extxyz", rattled(2, seed=5))
    output = tmp_path / "labelled.extxyz"
    write(output, molecule("H2O"))
    command = ("label", picks, "-o", output, "-c", "ase.calculators.emt:EMT", "--processes", 1)
    assert "--overwrite" in call(*command, code=2)
    assert not (tmp_path / "labelled.ledger").exists()
    call(*command, "--overwrite")
    call(*command)
    for atoms in read_structures(output):
        assert {"REF_energy", "surveyor_id"} <= {*atoms.info}


@pytest.mark.parametrize(
    ("info", "message"),
    [({"charge": "neutral"}, "info 'charge' is 'neutral'"), ({"total_spin": 1.5}, "info 'total_spin' is ")],
)
def test_every_command_refuses_a_charge_that_cannot_be(
    tmp_path: Path, model_file: Path, info: dict[str, object], message: str
) -> None:
    pool = rattled(4, seed=3)
    pool[2].info |= info
    path = write_structures(tmp_path / "pool.extxyz", pool)
    for command in (
        ("select", path, "-n", 2, "--model", model_file, "--dim", 16),
        ("embed", path, "-o", tmp_path / "store.zarr", "--model", model_file, "--dim", 16),
        ("label", path, "-o", tmp_path / "out.extxyz"),
        ("label", "export", path, tmp_path / "batch", "--method", "PBE"),
    ):
        said = call(*command, code=2)
        assert f"pool.extxyz, frame 2: {message}" in said
    assert "charge or spin that cannot be" in " ".join(
        call("doctor", path, "--model", model_file, code=1).split()
    )


def test_a_notice_reaches_the_terminal(tmp_path: Path) -> None:
    pool = rattled(2, seed=3)
    for atoms in pool:
        atoms.info["net_charge"] = 1
    path = write_structures(tmp_path / "pool.extxyz", pool)
    said = call("label", "export", path, tmp_path / "batch", "--method", "PBE")
    assert said.count("note: pool.extxyz, frame 0: info 'net_charge' (1) is not read") == 1
    with pytest.warns(Notice, match="net_charge"):
        list(read_structures(tmp_path / "batch" / "structures.extxyz"))
