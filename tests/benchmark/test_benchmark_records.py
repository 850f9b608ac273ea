"""Records of runs, loose and packed: what is read, what is refused, and that packing loses nothing."""

from __future__ import annotations

import io
import json
import lzma
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from surveyor.cli import app
from surveyor.errors import ConfigError, SurveyorError
from surveyor.lab.benchmark import load_benchmark
from surveyor.lab.benchmark.grid import RESOLVED, STATE, plan
from surveyor.lab.benchmark.records import ARCHIVE, RunName, finished, pack, read_runs

NAMES = [
    RunName("ridge", "b-10", "random", 0),
    RunName("ridge", "b-9", "random", 12),
    RunName("a", "t", "lcmd", 3),
]


def record(name: RunName, error: float = 1.5) -> dict[str, Any]:
    return {
        "learner": name.learner,
        "task": name.task,
        "strategy": name.strategy,
        "seed": name.seed,
        "unit": "meV/Å",
        "points": [error] * 50,
    }


def write(folder: Path, *names: RunName, error: float = 1.5) -> None:
    for name in names:
        path = name.path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record(name, error)) + "\n", encoding="utf-8")


def archive(folder: Path, *members: tuple[tarfile.TarInfo, bytes], check: int = lzma.CHECK_SHA256) -> None:
    """An archive by another hand."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as file:
        for member, content in members:
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    (folder / ARCHIVE).write_bytes(lzma.compress(plain.getvalue(), check=check))


def test_packed_records_read_as_the_loose_ones_did(tmp_path: Path) -> None:
    write(tmp_path, *NAMES)
    (tmp_path / "summary.json").write_text("{}")
    before = read_runs(tmp_path)
    assert before == [record(NAMES[2]), record(NAMES[0]), record(NAMES[1])]
    packed = pack(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ARCHIVE, "summary.json"]
    assert packed.records == 3
    assert packed.size == packed.path.stat().st_size
    assert read_runs(tmp_path) == before
    assert finished(tmp_path) == {name.record for name in NAMES}
    assert pack(tmp_path) == packed


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, *NAMES)
    write(two, *reversed(NAMES))
    for number, name in enumerate(NAMES):
        os.utime(name.path(two), (number, number))
        name.path(two).chmod(0o600)
    assert pack(one).sha256 == pack(two).sha256
    with tarfile.open(one / ARCHIVE) as file:
        members = file.getmembers()
    assert [member.name for member in members] == [NAMES[i].record for i in (2, 0, 1)]
    assert {(m.mtime, m.mode, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0o644, 0, 0, "", "")}


def test_loose_records_join_the_packed_ones_and_count_before_them(tmp_path: Path) -> None:
    write(tmp_path, *NAMES[:2])
    pack(tmp_path)
    write(tmp_path, *NAMES[1:], error=7.0)
    expected = [record(NAMES[2], 7.0), record(NAMES[0]), record(NAMES[1], 7.0)]
    assert read_runs(tmp_path) == expected
    assert finished(tmp_path) == {name.record for name in NAMES}
    assert pack(tmp_path).records == 3
    assert not (tmp_path / "runs").exists()
    assert read_runs(tmp_path) == expected


def test_packing_keeps_files_that_are_no_records(tmp_path: Path) -> None:
    write(tmp_path, NAMES[0], NAMES[2])
    note = NAMES[0].path(tmp_path).with_name("note.txt")
    note.write_text("mine")
    pack(tmp_path)
    assert note.read_text() == "mine"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["ridge"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("packed")
    write(folder, *NAMES)
    return pack(folder).path.read_bytes()


@settings(deadline=None)
@given(data=st.data())
def test_every_flipped_bit_and_every_cut_is_found(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                whole[:place]
                + bytes([whole[place] ^ 1 << data.draw(st.integers(0, 7))])
                + whole[place + 1 :],
                whole[:place],
                whole + whole[: place + 1],
            ]
        )
    )
    folder = tmp_path_factory.mktemp("damaged")
    (folder / ARCHIVE).write_bytes(damaged)
    for read in (read_runs, finished):
        with pytest.raises(SurveyorError, match=r"the archive .*runs\.tar\.xz is damaged: "):
            read(folder)


def test_a_damaged_archive_is_refused_before_loose_records_are_touched(tmp_path: Path, whole: bytes) -> None:
    write(tmp_path, NAMES[0])
    (tmp_path / ARCHIVE).write_bytes(whole[:-20])
    with pytest.raises(SurveyorError, match="is damaged: it ends too early"):
        pack(tmp_path)
    assert NAMES[0].path(tmp_path).is_file()
    assert (tmp_path / ARCHIVE).read_bytes() == whole[:-20]


@pytest.mark.parametrize(
    "name",
    [
        "../../runs/a/t/lcmd/003.json",
        "/runs/a/t/lcmd/003.json",
        "runs/a/../lcmd/003.json",
        "runs/a/t/lcmd/deep/003.json",
        "runs/a/t/.hidden/003.json",
        "runs/a/t/lcmd/003.json\n",
        "summary.json",
    ],
)
def test_a_member_of_another_name_is_refused(tmp_path: Path, name: str) -> None:
    archive(tmp_path, (tarfile.TarInfo(name), b"{}"))
    with pytest.raises(SurveyorError, match="is no record of a run") as error:
        read_runs(tmp_path)
    assert repr(name) in str(error.value)


def test_links_copies_and_other_checks_are_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo(NAMES[0].record)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    archive(tmp_path, (link, b""))
    with pytest.raises(SurveyorError, match="is no record of a run"):
        read_runs(tmp_path)
    twice = (tarfile.TarInfo(NAMES[0].record), json.dumps(record(NAMES[0])).encode())
    archive(tmp_path, twice, twice)
    with pytest.raises(SurveyorError, match="stands there twice"):
        read_runs(tmp_path)
    archive(tmp_path, twice, check=lzma.CHECK_CRC64)
    with pytest.raises(SurveyorError, match="it has no SHA-256"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"learner": "a", "task": "t"', "is damaged: JSONDecodeError"),
        ("[1, 2]", "is damaged: TypeError"),
        ('{"learner": "a"}', "is damaged: KeyError: 'task'"),
        (json.dumps(record(NAMES[0])), r"holds the record of another run, runs/ridge/b-10/random/000\.json"),
    ],
)
def test_a_record_that_cannot_be_is_named_and_never_packed(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, *NAMES)
    path = NAMES[2].path(tmp_path)
    path.write_text(text)
    for work in (read_runs, pack):
        with pytest.raises(SurveyorError, match=message) as error:
            work(tmp_path)
        assert str(path) in str(error.value)
    assert not (tmp_path / ARCHIVE).exists()
    assert all(name.path(tmp_path).is_file() for name in NAMES)


def test_a_file_beside_the_records_that_is_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path, NAMES[0])
    NAMES[0].path(tmp_path).with_name("000 (copy).json").write_text("{}")
    with pytest.raises(SurveyorError, match=r"000 \(copy\)\.json is no record of a run"):
        read_runs(tmp_path)


def test_nothing_to_read_and_nothing_to_pack(tmp_path: Path) -> None:
    assert finished(tmp_path) == set()
    for work in (read_runs, pack):
        with pytest.raises(ConfigError, match="no finished run"):
            work(tmp_path)


@pytest.mark.parametrize("grid", ["grid", "ablations"])
def test_the_published_grids_are_whole_and_of_one_potential(grid: str) -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "results" / grid
    runs = read_runs(folder)
    names = {RunName(run["learner"], run["task"], run["strategy"], run["seed"]) for run in runs}
    assert names == set(plan(load_benchmark(folder / RESOLVED)))
    assert {run["potential"] for run in runs} == {json.loads((folder / STATE).read_text())["potential"]}


def test_the_command_says_what_it_packed(tmp_path: Path) -> None:
    write(tmp_path, *NAMES)
    done = CliRunner().invoke(app, ["benchmark", "pack", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    packed = pack(tmp_path)
    assert json.loads(done.output) == {
        "archive": str(tmp_path / ARCHIVE),
        "records": 3,
        "bytes": packed.size,
        "sha256": packed.sha256,
    }
    assert "3 records in" in CliRunner().invoke(app, ["benchmark", "pack", str(tmp_path)]).output
    missing = CliRunner().invoke(app, ["benchmark", "pack", str(tmp_path / "no")])
    assert missing.exit_code == 2
    assert not (tmp_path / "no").exists()
