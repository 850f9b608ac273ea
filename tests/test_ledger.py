"""The journal of paid labels: torn writes are cut; all else that happened to it is refused and mended."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from surveyor.campaign import CampaignLock
from surveyor.cli import app
from surveyor.errors import CampaignError, LabellingError, Notice, said
from surveyor.labelling import Ledger
from surveyor.labelling.journal import Journal
from surveyor.labelling.repair import repair
from surveyor.labelling.rules import LabelRules
from surveyor.structures import structure_id
from surveyor.types import Failure, Labels


def structures(n: int = 5) -> dict[str, Atoms]:
    """Small molecules of one to five atoms."""
    made = []
    for i in range(n):
        atoms = molecule(("H2O", "CH4", "H", "HCN", "NH3")[i % 5])
        atoms.positions[0, 0] += 0.001 * i
        made.append(atoms)
    return {structure_id(atoms): atoms for atoms in made}


def label(atoms: Atoms) -> Labels:
    """Numbers that follow from the positions, so that a label can be told from every other."""
    forces = np.round(np.sin(atoms.positions * 7.0), 8)
    return Labels(round(-3.0 - float(np.cos(atoms.positions).sum()), 8), forces, core_seconds=1.5)


def filled(folder: Path, n: int = 5) -> Ledger:
    ledger = Ledger(folder, "m")
    for name, atoms in structures(n).items():
        ledger.append(name, atoms, label(atoms))
    return ledger


def check(ledger: Ledger, names: list[str]) -> None:
    """The ledger holds these labels, and every number is right."""
    assert list(ledger.structures) == names
    for name, atoms in ledger.structures.items():
        expected = label(structures()[name])
        assert structure_id(atoms) == name
        assert atoms.info["REF_energy"] == expected.energy
        np.testing.assert_array_equal(atoms.arrays["REF_forces"], expected.forces)


def frames_of(content: bytes) -> list[bytes]:
    """The frames of a journal by counting lines: a slow twin of the reader."""
    lines, frames = content.splitlines(keepends=True), []
    while lines:
        n = int(lines[0]) + 2
        frames.append(b"".join(lines[:n]))
        del lines[:n]
    return frames


def test_the_journal_opens_with_what_was_told_and_plain_ase_reads_it(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    ledger.append_failure("f" * 32, Failure("no luck"))
    again = Ledger(tmp_path, "m")
    check(again, list(structures()))
    assert again.failures == {"f" * 32: ["no luck"]}
    for atoms, (name, given_atoms) in zip(ase.io.read(ledger.path, ":"), structures().items(), strict=True):
        assert atoms.info["surveyor_id"] == name == structure_id(atoms)
        assert atoms.info["REF_energy"] == label(given_atoms).energy


# ---- torn writes ------------------------------------------------------------------------------------


def test_a_write_that_was_cut_anywhere_costs_that_label_alone(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    names, content = list(structures()), ledger.path.read_bytes()
    *_, last = frames_of(content)
    whole = content[: -len(last)]
    for cut in range(1, len(last) - 1, 3):
        for zeros in (b"", bytes(7))[: 1 + (cut % 5 == 0)]:
            ledger.path.write_bytes(whole + last[:cut] + zeros)
            check(Ledger(tmp_path, "m", read_only=True), names[:-1])
            with pytest.warns(Notice, match="an interrupted write"):
                opened = Ledger(tmp_path, "m")
            check(opened, names[:-1])
            assert ledger.path.read_bytes() == whole
            (tmp_path / "m.paid.json").write_text('{"labels": 5}')


def test_a_label_that_lacks_its_last_line_end_alone_is_whole(tmp_path: Path) -> None:
    """An editor that strips it, or a write cut just there, has taken no number: nothing is paid again."""
    ledger = filled(tmp_path)
    content = ledger.path.read_bytes()
    ledger.path.write_bytes(content[:-1])
    check(Ledger(tmp_path, "m", read_only=True), list(structures()))
    assert ledger.path.read_bytes() == content[:-1]
    opened = Ledger(tmp_path, "m")
    check(opened, list(structures()))
    assert ledger.path.read_bytes() == content
    name, more = list(structures(6).items())[-1]
    opened.append(name, more, label(more))
    assert list(Ledger(tmp_path, "m").structures) == [*structures(), name]


def test_zeros_behind_the_last_label_are_cut(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    content = ledger.path.read_bytes()
    ledger.path.write_bytes(content + bytes(4096))
    with pytest.warns(Notice, match="4096 bytes"):
        check(Ledger(tmp_path, "m"), list(structures()))
    assert ledger.path.read_bytes() == content


def test_the_journal_goes_on_after_a_torn_frame(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    content = ledger.path.read_bytes()
    ledger.path.write_bytes(content[:-10])
    with pytest.warns(Notice):
        opened = Ledger(tmp_path, "m")
    last, atoms = list(structures().items())[-1]
    opened.append(last, atoms, label(atoms))
    assert ledger.path.read_bytes() == content


# ---- everything else --------------------------------------------------------------------------------


def refuses(folder: Path, path: Path, match: str = "nothing was changed") -> str:
    """Opening is refused, and changes nothing."""
    before = path.read_bytes()
    with pytest.raises(LabellingError, match=match) as caught:
        Ledger(folder, "m")
    with pytest.raises(LabellingError):
        Ledger(folder, "m", read_only=True)
    assert path.read_bytes() == before
    return str(caught.value)


CONVERSIONS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "CRLF": (lambda c: c.replace(b"\n", b"\r\n"), "line ends"),
    "CR": (lambda c: c.replace(b"\n", b"\r"), "line ends"),
    "gzip": (gzip.compress, "compressed"),
    "bz2": (bz2.compress, "compressed"),
    "xz": (lzma.compress, "compressed"),
    "UTF-16": (lambda c: c.decode().encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": (lambda c: c.decode().encode("utf-16-le"), "UTF-16"),
    "UTF-32": (lambda c: c.decode().encode("utf-32"), "UTF-32"),
    "CRLF, the last one stripped": (lambda c: c.replace(b"\n", b"\r\n").rstrip(), "line ends"),
    "byte order mark": (lambda c: c.decode().encode("utf-8-sig"), "byte order mark"),
    "gzip of CRLF": (lambda c: gzip.compress(c.replace(b"\n", b"\r\n")), "compressed"),
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_a_converted_journal_is_refused_and_mended_whole(tmp_path: Path, conversion: str) -> None:
    ledger = filled(tmp_path)
    content = ledger.path.read_bytes()
    convert, why = CONVERSIONS[conversion]
    damaged = convert(content)  # once: gzip writes the time of day
    ledger.path.write_bytes(damaged)
    assert "5 of 5 labels are whole" in refuses(tmp_path, ledger.path, why)
    (mended,) = repair(tmp_path)
    assert (mended.labels, mended.lost) == (5, 0)
    assert mended.aside is not None
    assert mended.aside.read_bytes() == damaged
    assert ledger.path.read_bytes() == content
    check(Ledger(tmp_path, "m"), list(structures()))


def test_a_journal_that_ase_wrote_again_is_refused_and_mended_whole(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    content = ledger.path.read_bytes()
    ase.io.write(ledger.path, ase.io.read(ledger.path, ":"), format="extxyz")
    assert "wrote it again" in refuses(tmp_path, ledger.path)
    (mended,) = repair(tmp_path)
    assert (mended.labels, mended.lost) == (5, 0)
    assert ledger.path.read_bytes() == content


def test_a_flipped_bit_of_the_last_frames_is_refused_and_the_rest_is_kept(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 3)  # the last one is a single atom
    content = ledger.path.read_bytes()
    begin = len(content) - len(frames_of(content)[-1]) - 1
    for bit in range(8 * begin, 8 * len(content), 11):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        ledger.path.write_bytes(damaged)
        with pytest.raises(LabellingError, match="labels are whole; nothing was changed"):
            Ledger(tmp_path, "m")
        assert ledger.path.read_bytes() == damaged
        (mended,) = repair(tmp_path)
        assert mended.labels >= 1
        assert mended.labels + mended.lost == 3
        assert mended.aside is not None
        mended.aside.unlink()
        (tmp_path / "m.paid.json").write_text('{"labels": 3}')


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lost_and_added_bytes_are_never_cut_away(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "j"
    ledger = Ledger(folder, "m") if (folder / "m.extxyz").exists() else filled(folder)
    content = ledger.path.read_bytes()
    begin = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(begin, min(len(content) - 1, begin + 300)))
    added = data.draw(st.binary(max_size=20))
    damaged = content[:begin] + added + content[end:]
    ledger.path.write_bytes(damaged)
    try:
        if content.startswith(damaged):
            return
        with pytest.raises(LabellingError):
            Ledger(folder, "m")
        assert ledger.path.read_bytes() == damaged
    finally:
        ledger.path.write_bytes(content)


def test_fewer_labels_than_were_paid_for_are_an_error(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    content = ledger.path.read_bytes()
    frames = frames_of(content)
    for left in (frames[:4], frames[:1], []):
        ledger.path.write_bytes(b"".join(left))
        assert f"{len(left)} of 5 labels are whole" in refuses(tmp_path, ledger.path, "was cut short")
    ledger.path.unlink()
    with pytest.raises(LabellingError, match="missing; 5 labels were paid for"):
        Ledger(tmp_path, "m")
    with pytest.raises(LabellingError, match="5 labels"):
        repair(tmp_path)
    (mended,) = repair(tmp_path, accept_loss=True)
    assert (mended.labels, mended.lost) == (0, 5)
    assert len(Ledger(tmp_path, "m")) == 0


def test_a_caller_may_know_how_many_labels_there_must_be(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    assert len(Ledger(tmp_path, "m", paid=2)) == 2
    with pytest.raises(LabellingError, match="2 of 3 labels"):
        Ledger(tmp_path, "m", paid=3)
    with pytest.raises(LabellingError, match="missing; 3 labels"):
        Ledger(tmp_path / "empty", "m", paid=3)


def test_a_label_that_arrived_after_the_last_count_counts(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    count = tmp_path / "m.paid.json"
    count.write_text('{"labels": 2}')  # killed between the label and its count
    check(Ledger(tmp_path, "m"), list(structures(3)))
    assert json.loads(count.read_text()) == {"labels": 3}
    for damage in ("", "{", "[]", '{"labels": "9"}', "[" * 4000):
        count.write_text(damage)
        said.clear()
        with pytest.warns(Notice, match="is damaged"):
            check(Ledger(tmp_path, "m"), list(structures(3)))
    count.write_text('{"labels": 3}')


def test_a_journal_of_the_first_edition_goes_on(tmp_path: Path) -> None:
    old = Path(__file__).parent / "data" / "journal-of-the-first-edition.extxyz"
    content = old.read_bytes()
    (tmp_path / "m.extxyz").write_bytes(content)
    opened = Ledger(tmp_path, "m")
    assert len(opened) == 3
    (name, atoms) = next(iter(structures(1).items()))
    opened.append(name, atoms, label(atoms))
    again = Ledger(tmp_path, "m")
    assert len(again) == 4
    assert all(structure_id(atoms) == name for name, atoms in again.structures.items())
    # Its torn frames cannot be told from damaged ones: nothing is cut.
    (tmp_path / "m.paid.json").unlink()
    (tmp_path / "m.extxyz").write_bytes(content[:-5])
    assert "2 labels are whole" in refuses(tmp_path, tmp_path / "m.extxyz")
    assert repair(tmp_path)[0].labels == 2


# ---- what goes in -----------------------------------------------------------------------------------


def test_the_journal_takes_a_label_once_and_only_for_its_structure(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 2)
    content = ledger.path.read_bytes()
    (name, atoms), (other, _) = structures(2).items()
    nothing = Labels(0.0, np.zeros((len(atoms), 3)))
    ledger.append(name, atoms, nothing)
    assert ledger.path.read_bytes() == content
    with pytest.raises(LabellingError, match="not of this structure"):
        ledger.append(other, atoms, nothing)
    with pytest.raises(LabellingError, match="read-only"):
        Ledger(tmp_path, "m", read_only=True).append(name, atoms, nothing)


ZEROS = np.zeros((3, 3))
NO_LABELS = {
    "NaN": Labels(float("nan"), ZEROS),
    "a cost that is none": Labels(1.0, ZEROS, core_seconds=float("nan")),
    "a cost in words": Labels(1.0, ZEROS, core_seconds="an hour"),  # type: ignore[arg-type]
    "infinite": Labels(1.0, ZEROS + np.inf),
    "complex": Labels(1.0 + 2.0j, ZEROS),  # type: ignore[arg-type]
    "complex forces": Labels(1.0, ZEROS + 1.0j),
    "too few": Labels(1.0, ZEROS[:2]),
    "flat": Labels(1.0, ZEROS.ravel()),
    "text": Labels("minus one", ZEROS),  # type: ignore[arg-type]
    "nothing": Labels(None, ZEROS),  # type: ignore[arg-type]
    "masked": Labels(1.0, np.ma.masked_array(ZEROS, mask=np.eye(3, dtype=bool))),
    "a list of energies": Labels([1.0, 2.0], ZEROS),  # type: ignore[arg-type]
    "stress": Labels(1.0, ZEROS, stress=np.full(6, np.nan)),
    "stress of another shape": Labels(1.0, ZEROS, stress=np.zeros(5)),
}


@pytest.mark.parametrize("what", NO_LABELS)
def test_what_is_no_label_is_refused_and_the_labels_beside_it_stay(tmp_path: Path, what: str) -> None:
    other = molecule("CO2")
    ledger = filled(tmp_path, 2)
    with pytest.raises(LabellingError, match="is none"):
        ledger.append(structure_id(other), other, NO_LABELS[what])
    assert structure_id(other) not in ledger
    check(Ledger(tmp_path, "m"), list(structures(2)))


@given(text=st.text(max_size=60), group=st.one_of(st.text(max_size=8), st.integers(), st.floats()))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_code_or_a_file_says_the_journal_reads_it_back(
    tmp_path_factory: pytest.TempPathFactory, text: str, group: object
) -> None:
    folder = tmp_path_factory.mktemp("j")
    ledger = Ledger(folder, "m")
    for number, (name, atoms) in enumerate(structures(2).items()):
        if number == 0:
            atoms.info |= {"config_type": group, "reaction": text, "note": text, text: group}
            atoms.info["surveyor_doubt"] = "of an earlier label"
        ledger.prove({name: atoms})
        expected = label(atoms)
        ledger.append(name, atoms, Labels(expected.energy, expected.forces, doubt=text or None))
    again = Ledger(folder, "m")
    check(again, list(structures(2)))
    first = next(iter(again.structures.values()))
    assert ("surveyor_doubt" in first.info) == bool(text)
    known = {"REF_energy", "surveyor_id", "surveyor_doubt", "config_type", "reaction"}
    assert set(first.info) <= known


def test_a_journal_that_another_process_lengthened_takes_nothing(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path, "m"), Ledger(tmp_path, "m")
    (a, b, *_) = structures().items()
    first.append(a[0], a[1], label(a[1]))
    with pytest.raises(LabellingError, match="one process that writes"):
        second.append(b[0], b[1], label(b[1]))
    check(Ledger(tmp_path, "m"), [a[0]])


@pytest.mark.parametrize("name", ["m.extxyz", "m.failures.jsonl", "m.quarantine.jsonl"])
def test_a_planted_link_or_pipe_is_not_followed(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("my thesis\n")
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / name).symlink_to(precious)
    with pytest.raises(LabellingError, match="symbolic link"):
        filled(folder).append_failure("f" * 32, Failure("no luck"))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(LabellingError, match="pipe"):
        filled(folder)
    assert precious.read_text() == "my thesis\n"


def test_a_full_disk_leaves_the_journal_whole(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 4)
    content = ledger.path.read_bytes()
    script = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_ledger import label, structures
from surveyor.errors import SurveyorError
from surveyor.labelling import Ledger
ledger = Ledger(Path({str(tmp_path)!r}), "m")
resource.setrlimit(resource.RLIMIT_FSIZE, ({len(content) + 100},) * 2)  # 100 bytes are left
name, atoms = list(structures().items())[-1]
try:
    ledger.append(name, atoms, label(atoms))
except SurveyorError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert "could not write" in done.stdout, done.stderr
    assert ledger.path.read_bytes() == content
    check(Ledger(tmp_path, "m"), list(structures(4)))


# ---- journals of one line an entry ------------------------------------------------------------------


def test_a_torn_line_of_a_journal_is_cut_and_a_whole_one_without_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append("a", reason="one")
    first = path.read_bytes()
    journal.append("b", reason="two")
    whole = path.read_bytes()
    for cut in range(len(first) + 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert Journal(path, read_only=True).names == ["a"]
        assert Journal(path).names == ["a"]
        assert path.read_bytes() == first
    path.write_bytes(whole[:-1])
    assert Journal(path).names == ["a", "b"]
    assert path.read_bytes() == whole


NO_ENTRIES = [
    "", "{", "null", "[1]", '{"id": 3}', '{"id": "x"}', "[" * 5000, "\x00\xff",
    '{"id": "x", "reason": "r", "time": 1e999}',
]  # fmt: skip


@pytest.mark.parametrize("line", NO_ENTRIES)
def test_a_damaged_line_is_named_and_not_fatal_for_failures(tmp_path: Path, line: str) -> None:
    ledger = filled(tmp_path, 2)
    ledger.append_failure("e" * 32, Failure("no luck"))
    path = tmp_path / "m.failures.jsonl"
    path.write_bytes(path.read_bytes() + line.encode("latin-1") + b"\n")
    with pytest.warns(Notice, match="line 2, is damaged"):
        again = Ledger(tmp_path, "m")
    again.append_failure("f" * 32, Failure("nor here"))
    said.clear()
    with pytest.warns(Notice, match="line 2, is damaged"):
        assert list(Ledger(tmp_path, "m").failures) == ["e" * 32, "f" * 32]


def test_a_damaged_line_of_the_quarantine_is_an_error(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 2)
    ledger.quarantine(next(iter(structures())), "odd")
    path = tmp_path / "m.quarantine.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"id"', b'"ie"'))
    with pytest.raises(LabellingError, match="line 1, is damaged: it holds back a label"):
        Ledger(tmp_path, "m")


# ---- the command ------------------------------------------------------------------------------------


def test_the_command_mends_and_says_what_it_did(tmp_path: Path) -> None:
    folder = tmp_path / "out.ledger"
    ledger = filled(folder / "labels")
    runner = CliRunner()
    assert "whole, 5 labels" in runner.invoke(app, ["label", "repair", str(folder)]).stdout
    content = ledger.path.read_bytes()
    frames = frames_of(content)
    ledger.path.write_bytes(b"".join([*frames[:2], frames[2].replace(b"H", b"h"), *frames[3:]]))
    done = runner.invoke(app, ["label", "repair", str(folder), "--json"])
    assert done.exit_code == 0
    (told,) = json.loads(done.stdout)
    assert (told["labels"], told["lost"]) == (4, 1)
    assert Path(told["aside"]).is_file()
    names = list(structures())
    check(Ledger(folder / "labels", "m"), [*names[:2], *names[3:]])
    ledger.path.unlink()
    done = runner.invoke(app, ["label", "repair", str(folder / "labels")])
    assert done.exit_code == 2
    assert "--accept-loss" in done.output
    assert runner.invoke(app, ["label", "repair", str(tmp_path)]).exit_code == 2


# ---- the lock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["", "\0" * 40, "nobody", "[3]", '{"host": "elsewhere"}', '{"pid": 3}', "[" * 9999]
)
def test_a_lock_that_names_nobody_stops_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "owner.lock").write_text(content)
    named = content.strip("\0") != ""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with (
            CampaignLock(tmp_path),
            pytest.raises(CampaignError, match=str(os.getpid())),
            CampaignLock(tmp_path),
        ):
            pass
    assert [one.category for one in told] == [Notice] * named
    assert (tmp_path / "owner.lock").read_bytes() == b""


def test_a_lock_of_another_machine_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "owner.lock"
    path.write_text('{"host": "elsewhere", "pid": 3}')
    with (
        pytest.raises(CampaignError, match="process 3 on another machine, elsewhere"),
        CampaignLock(tmp_path),
    ):
        pass
    assert "elsewhere" in path.read_text()


def test_a_lock_that_is_a_link_or_a_pipe_is_left_alone(tmp_path: Path) -> None:
    precious, lock = tmp_path / "precious", tmp_path / "owner.lock"
    precious.write_text("my thesis\n")
    lock.symlink_to(precious)
    with pytest.raises(LabellingError, match="symbolic link"), CampaignLock(tmp_path):
        pass
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(LabellingError, match="pipe"), CampaignLock(tmp_path):
        pass
    assert precious.read_text() == "my thesis\n"


def test_the_time_of_a_failure_in_the_future_is_not_waited_for() -> None:
    rules = LabelRules(retries=3, retry_wait=10.0)
    now = time.time()
    assert rules.due([{"reason": "x", "time": now + 1e6}]) <= time.time() + 10
    assert rules.due([{"reason": "x", "time": now - 4}]) == pytest.approx(now + 6)
    assert rules.due([{"reason": "x"}]) == 10.0
