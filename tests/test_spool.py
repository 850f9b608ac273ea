"""The hand-over folder: orders, claims and results, also those that nobody here wrote."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT

from conftest import rattled
from surveyor.errors import LabellingError, Notice, said
from surveyor.labelling import CalculatorSpec, EngineLabeller, LocalEngine, claims
from surveyor.labelling.claims import STALE, in_flight
from surveyor.labelling.results import ASIDE, MOST_ASIDE, Order, Result
from surveyor.labelling.spool import (
    compute_once,
    finished,
    forget,
    order,
    our_order,
    read_result,
    set_old_aside,
    spool_of,
    sweep,
    write_result,
)
from surveyor.structures import structure_id
from surveyor.types import Failure, Labels

A, B = "a" * 32, "b" * 32
EMT_SPEC = CalculatorSpec("ase.calculators.emt.EMT")


def run(folder: Path, work, deliver) -> None:
    compute_once(folder, A, "m", 3, work, deliver=deliver)


def test_it_computes_once(tmp_path: Path) -> None:
    calls, delivered = [], []

    def work() -> Labels:
        calls.append(1)
        assert in_flight(tmp_path, A)
        return Labels(1.25, np.eye(3), np.arange(6.0), 3.0, "not converged", free_energy=True)

    placed = order(tmp_path, A, "m")
    for _ in range(3):
        run(tmp_path, work, delivered.append)
    for result in [*delivered, read_result(tmp_path, placed, 3)]:
        assert isinstance(result, Labels)
        assert (result.energy, result.core_seconds, result.doubt) == (1.25, 3.0, "not converged")
        assert result.free_energy
        np.testing.assert_array_equal(result.stress, np.arange(6.0))
    assert (len(delivered), len(calls)) == (3, 1)
    assert not in_flight(tmp_path, A)
    other = order(tmp_path, B, "m")
    write_result(tmp_path, other, Failure("why", final=True))
    assert read_result(tmp_path, other, 3) == Failure("why", final=True)
    assert finished(tmp_path) == [A, B]
    forget(tmp_path, A)
    assert finished(tmp_path) == [B]
    # a second job for a label that was collected meanwhile has nothing to do
    run(tmp_path, work, delivered.append)
    assert delivered[-1] is None
    assert len(calls) == 1
    sweep(tmp_path, ())
    assert list(tmp_path.iterdir()) == []


def test_a_job_of_another_method_does_not_answer_an_order(tmp_path: Path) -> None:
    order(tmp_path, A, "other")
    delivered: list[object] = []
    run(tmp_path, lambda: pytest.fail("computed"), delivered.append)
    assert delivered == [None]


def test_an_order_lasts_over_runs_of_one_user_and_method(tmp_path: Path) -> None:
    first = order(tmp_path, A, "m")
    assert order(tmp_path, A, "m") == first
    assert (tmp_path / f"{A}.order").stat().st_mode & 0o077 == 0  # the token is nobody else's business
    second = order(tmp_path, A, "n")
    assert second.token != first.token
    assert our_order(tmp_path, A, "m") is None
    (tmp_path / f"{A}.order").write_text("")
    assert order(tmp_path, A, "n").token != second.token
    if os.geteuid() == 0:
        os.chown(tmp_path / f"{A}.order", 65534, -1)
        assert our_order(tmp_path, A, "n") is None


def test_names_are_ids(tmp_path: Path) -> None:
    for name in ("../x", "abc", "A" * 32, "a" * 31 + "/", "a" * 33, "a" * 32 + "\n"):
        with pytest.raises(LabellingError, match="no id"):
            order(tmp_path, name, "m")
    (tmp_path / "evil.json").write_text("{}")
    assert finished(tmp_path) == []
    sweep(tmp_path, ())
    assert (tmp_path / "evil.json").exists()


def whole(placed: Order, **changes: object) -> str:
    content = {"energy": 1.0, "forces": [[0.0] * 3] * 3, "stress": None, "core_seconds": 0.0}
    return json.dumps({**placed.content(), **content, **changes})


DAMAGES = {
    "empty": lambda _: "",
    "cut": lambda o: whole(o)[:-9],
    "binary": lambda _: b"\xff\xfe\x00",
    "deep": lambda _: "[" * 200_000,
    "no mapping": lambda _: "[1]",
    "huge": lambda o: whole(o, doubt="x" * 2_000_000),
    "huge number": lambda o: whole(o).replace("1.0", "1" * 5000, 1),
    "nan": lambda o: whole(o, energy=float("nan")),
    "inf in forces": lambda o: whole(o, forces=[[0, 0, float("inf")]] * 3),
    "text": lambda o: whole(o, energy="1.0"),
    "truth": lambda o: whole(o, energy=True),
    "no energy": lambda o: whole(o, energy=None),
    "too few forces": lambda o: whole(o, forces=[[0.0] * 3] * 2),
    "ragged forces": lambda o: whole(o, forces=[[0.0] * 3, [0.0], []]),
    "flat forces": lambda o: whole(o, forces=[0.0] * 9),
    "stress of 3": lambda o: whole(o, stress=[0.0] * 3),
    "doubt of numbers": lambda o: whole(o, doubt=[1]),
    "failure without words": lambda o: whole(o, failure=[1]),
    "endless cost": lambda o: whole(o, core_seconds=float("inf")),
    "other token": lambda o: whole(o, token="0" * 32),
    "no token": lambda _: json.dumps({"energy": 1.0, "forces": [[0.0] * 3] * 3, "stress": None}),
    "other method": lambda o: whole(o, method="n"),
    "other structure": lambda o: whole(o, id=B),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_result_that_cannot_be_believed_is_set_aside_and_said(tmp_path: Path, damage: str) -> None:
    placed = order(tmp_path, A, "m")
    path = tmp_path / f"{A}.json"
    path.write_text(whole(placed))
    assert isinstance(read_result(tmp_path, placed, 3), Labels)
    content = DAMAGES[damage](placed)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.warns(Notice, match=rf"{A}\.json.*computed again"):
        assert read_result(tmp_path, placed, 3) is None
    assert not path.exists()
    (kept,) = (tmp_path / ASIDE).iterdir()
    assert kept.stat().st_size == len(content)


def test_what_is_no_file_is_set_aside_and_never_followed(tmp_path: Path) -> None:
    placed = order(tmp_path, A, "m")
    path, elsewhere = tmp_path / f"{A}.json", tmp_path / "elsewhere"
    elsewhere.write_text(whole(placed))
    for plant in (lambda: path.symlink_to(elsewhere), lambda: os.mkfifo(path), path.mkdir):
        said.clear()  # the same words twice are shown once
        plant()
        said.clear()
        with pytest.warns(Notice, match="computed again"):
            assert read_result(tmp_path, placed, 3) is None
    assert elsewhere.read_text() == whole(placed)
    for _ in range(MOST_ASIDE + 3):
        said.clear()
        path.write_text("")
        said.clear()
        with pytest.warns(Notice):
            read_result(tmp_path, placed, 3)
    assert len(list((tmp_path / ASIDE).iterdir())) == MOST_ASIDE


def test_planted_links_are_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    old = victim.stat().st_mtime_ns
    folder = spool_of(tmp_path, "m")
    for name in (f"{A}.order", f"{A}.claim", f"{A}.json", ".clock"):
        (folder / name).symlink_to(victim)
    assert not in_flight(folder, A)
    placed = order(folder, A, "m")
    delivered: list[object] = []
    with pytest.warns(Notice, match="computed again"):
        run(folder, lambda: Labels(1.0, np.zeros((3, 3))), delivered.append)
    assert isinstance(read_result(folder, placed, 3), Labels)
    assert victim.read_text() == "mine"
    assert victim.stat().st_mtime_ns == old
    (tmp_path / "n").symlink_to(folder)
    with pytest.raises(LabellingError, match="is a link"):
        spool_of(tmp_path, "n")


def test_claims_count_while_their_heart_beats(tmp_path: Path) -> None:
    claim = tmp_path / f"{A}.claim"
    claim.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert in_flight(tmp_path, A)
    long_ago = time.time() - STALE - 5
    os.utime(claim, (long_ago, long_ago))
    assert not in_flight(tmp_path, A)  # a dead machine
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    claim.write_text(json.dumps({"host": socket.gethostname(), "pid": done.pid}))
    assert not in_flight(tmp_path, A)  # a dead process of this machine, at once
    claim.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    assert in_flight(tmp_path, A)


@pytest.mark.parametrize("content", ["", "[]", "[" * 9000, '{"host": 1, "pid": "x"}', '{"host": "x"}'])
def test_a_damaged_claim_counts_for_its_time_only(tmp_path: Path, content: str) -> None:
    claim = tmp_path / f"{A}.claim"
    claim.write_text(content)
    assert in_flight(tmp_path, A)
    os.utime(claim, (time.time() - STALE - 5,) * 2)
    assert not in_flight(tmp_path, A)


def test_a_claim_of_the_future_counts_only_if_it_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.4)
    claim = tmp_path / f"{A}.claim"
    claim.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    for ahead in (3600.0, 3601.0):  # its clock is an hour ahead, and it is alive
        os.utime(claim, (time.time() + ahead,) * 2)
        assert in_flight(tmp_path, A)
        time.sleep(0.3)
    time.sleep(0.5)
    assert not in_flight(tmp_path, A)
    os.utime(claim)
    assert in_flight(tmp_path, A)


def test_a_label_claimed_from_the_future_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.5)
    atoms = rattled(1, 5)[0]
    name = structure_id(atoms)
    claim = spool_of(tmp_path, EMT_SPEC.method) / f"{name}.claim"
    claim.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    os.utime(claim, (time.time() + 1e6,) * 2)
    ((_, result),) = EngineLabeller(EMT_SPEC, LocalEngine(processes=1), spool=tmp_path)({name: atoms})
    assert isinstance(result, Labels)


def test_a_job_waits_for_the_claim_of_another_machine(tmp_path: Path) -> None:
    delivered: list[object] = []
    placed = order(tmp_path, A, "m")
    (tmp_path / f"{A}.claim").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    job = threading.Thread(target=run, args=(tmp_path, lambda: pytest.fail("twice"), delivered.append))
    job.start()
    time.sleep(0.5)
    assert not delivered
    write_result(tmp_path, placed, Failure("from the other machine"))
    job.join(timeout=10)
    assert delivered == [Failure("from the other machine")]


def test_a_result_that_cannot_be_written_is_kept_until_it_can_be(tmp_path: Path) -> None:
    placed = order(tmp_path, A, "m")
    delivered: list[object] = []
    broken = threading.Event()

    def work() -> Labels:
        (tmp_path / f"{A}.json").mkdir()  # no file can take this place
        broken.set()
        return Labels(1.0, np.zeros((3, 3)))

    job = threading.Thread(target=run, args=(tmp_path, work, delivered.append))
    job.start()
    assert broken.wait(10)
    time.sleep(0.5)
    assert job.is_alive()
    assert len(delivered) == 1
    assert in_flight(tmp_path, A)
    (tmp_path / f"{A}.json").rmdir()
    job.join(timeout=20)
    assert read_result(tmp_path, placed, 3) is not None


def test_only_results_that_were_ordered_are_harvested(tmp_path: Path) -> None:
    """One that an earlier run ordered, one that was planted, one that nobody waits for, an old one."""
    ours, planted, old = rattled(3, 0)
    names = [structure_id(atoms) for atoms in (ours, planted, old)]
    method = EMT_SPEC.method
    folder = spool_of(tmp_path, method)
    write_result(folder, order(folder, names[0], method), Labels(42.0, np.zeros((3, 3))))
    n = len(planted)
    write_result(folder, Order(names[1], method, "0" * 32), Labels(43.0, np.zeros((n, 3))))
    write_result(folder, Order(A, method, "0" * 32), Labels(1.0, np.zeros((1, 3))))
    (tmp_path / f"{names[2]}.json").write_text(
        json.dumps({"energy": 44.0, "forces": np.zeros((len(old), 3)).tolist(), "stress": None})
    )
    (tmp_path / f"{names[2]}.order").touch()
    structures = dict(zip(names, (ours, planted, old), strict=True))
    with pytest.warns(Notice, match="computed again") as said:
        results = dict(EngineLabeller(EMT_SPEC, LocalEngine(processes=1), spool=tmp_path)(structures))
    assert sorted(str(w.message).partition(".json")[0][-32:] for w in said) == sorted(names[1:])
    assert results[names[0]].energy == 42.0
    for name in names[1:]:
        structures[name].calc = EMT()
        assert results[name].energy == structures[name].get_potential_energy()
    assert [p for p in tmp_path.rglob("*") if p.is_file() and ASIDE not in p.parts] == []


@pytest.mark.parametrize("where", [".", "m"])
@pytest.mark.parametrize("suffix", ["order", "claim", "json"])
def test_a_folder_in_the_place_of_a_file_stops_nothing(tmp_path: Path, where: str, suffix: str) -> None:
    folder = spool_of(tmp_path, "m")
    inside = tmp_path / where / f"{A}.{suffix}" / "mine"
    inside.parent.mkdir()
    inside.write_text("kept")

    def labelled() -> Result | None:
        set_old_aside(tmp_path)
        placed = order(folder, A, "m")
        run(folder, lambda: Labels(1.25, np.eye(3)), lambda _: None)
        return read_result(folder, placed, 3)

    with pytest.warns(Notice, match="moved to set-aside"):
        found = labelled()
    assert isinstance(found, Labels)
    assert found.energy == 1.25
    assert [path.read_text() for path in (tmp_path / where / ASIDE).rglob("mine")] == ["kept"]
