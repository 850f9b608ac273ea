"""The loop: every step on disk, any interruption survived."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms

from conftest import emt_labelled, rattled
from surveyor.campaign import Campaign, CampaignLock, LabelRules, Stopping, read_campaign
from surveyor.campaign.validation import split_validation
from surveyor.config import build_plan, load_campaign
from surveyor.errors import CampaignError
from surveyor.labelling import CalculatorSpec, compute
from surveyor.potentials.references import shifted_to
from surveyor.structures import structure_id, write_structures
from surveyor.types import Failure

TESTS = Path(__file__).parent


def write_config(folder: Path, model: Path, log: Path, **changes: object) -> Path:
    """A small campaign: EMT labels, two rounds of six, a minute of training in all at most."""
    write_structures(folder / "pool.extxyz", rattled(30, seed=1))
    write_structures(folder / "start.extxyz", emt_labelled(rattled(4, seed=2)))
    write_structures(folder / "test.extxyz", emt_labelled(rattled(8, seed=3)))
    content: dict[str, object] = {
        "pool": "pool.extxyz",
        "start": "start.extxyz",
        "test": "test.extxyz",
        "model": str(model),
        "features": {"dim": 64},
        "selection": {"batch": 6},
        "labels": {
            "calculator": "calculators:CountingEMT",
            "settings": {"log": str(log), "seconds": 0.2},
            "processes": 2,
            "retries": 0,
        },
        "training": {"updates": 6, "threads": 1, "quality": "quick"},
        "stop": {"rounds": 2},
    }
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def run(config: Path, folder: Path) -> subprocess.Popen[str]:
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "surveyor.cli", "run", str(config), "-o", str(folder), "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def labels_in(folder: Path) -> dict[str, tuple[float, list[list[float]]]]:
    """id → energy and forces, from the journal."""
    (journal,) = (folder / "labels").glob("*.extxyz")
    return {
        atoms.info["surveyor_id"]: (atoms.info["REF_energy"], atoms.arrays["REF_forces"].tolist())
        for atoms in ase.io.read(journal, ":")
    }


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_kills_lose_nothing_and_label_nothing_twice(tmp_path: Path, model_file: Path, kills: int) -> None:
    log = tmp_path / "calls"
    config = write_config(tmp_path, model_file, log)
    quiet = run(config, tmp_path / "quiet")
    out, err = quiet.communicate()
    assert quiet.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["rounds"] == 2
    undisturbed = labels_in(tmp_path / "quiet")
    assert len(undisturbed) == 12
    log.unlink()

    folder = tmp_path / "killed"
    moments = np.random.default_rng(0)
    for _ in range(kills):
        process = run(config, folder)
        try:
            process.wait(timeout=moments.uniform(1.0, 14.0))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    last = run(config, folder)
    out, err = last.communicate()
    assert last.returncode == 0, err
    assert labels_in(folder) == undisturbed
    calls = Counter(log.read_text().split())
    assert calls == dict.fromkeys(undisturbed, 1)
    assert [r.labels for r in read_campaign(folder).rounds] == [4, 10, 16]
    assert not list((folder / "labels" / "spool").iterdir())


@pytest.fixture
def campaign(tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    monkeypatch.syspath_prepend(str(TESTS))
    config = load_campaign(write_config(tmp_path, model_file, tmp_path / "calls", stop={"rounds": 1}))
    return Campaign(tmp_path / "c", replace(build_plan(config), trainer=refitted), "emt")


def refitted(start: Any, train: Sequence[Atoms], valid: Sequence[Atoms], **_: Any) -> Any:
    """Trains nothing but the reference energies: what the trainer does has tests of its own."""
    return shifted_to(start, [*train, *valid])


def with_plan(campaign: Campaign, **changes: object) -> Campaign:
    """The campaign, opened again with other settings."""
    return Campaign(campaign.folder, replace(campaign.plan, **changes), "emt")  # type: ignore[arg-type]


def test_ask_tell_advance_by_hand(campaign: Campaign) -> None:
    assert campaign.ask() == {}
    before = campaign.advance()
    assert (before.number, before.labels, before.paid) == (0, 4, 0)
    todo = campaign.ask()
    assert len(todo) == 6
    assert all(structure_id(atoms) == name for name, atoms in todo.items())
    assert campaign.ask().keys() == todo.keys()  # asking changes nothing
    with pytest.raises(CampaignError, match="6 of 6 labels of round 1 are missing"):
        campaign.advance()
    with pytest.raises(CampaignError, match="was not asked for"):
        campaign.tell("0" * 32, Failure("?"))
    names = list(todo)
    spec = CalculatorSpec("ase.calculators.emt.EMT")
    campaign.tell(names[0], Failure("SCF did not converge"))
    for name in names[1:]:
        campaign.tell(name, compute(spec, todo[name]))
    campaign.tell(names[1], compute(spec, todo[names[1]]))  # a second time: nothing happens
    assert len(campaign.ledger) == 5
    assert campaign.ask() == {}
    after = campaign.advance()
    assert (after.number, after.labels, after.paid, after.failed) == (1, 9, 5, 1)
    assert after.stopped == "all 1 rounds done"
    assert campaign.stopped == "all 1 rounds done"
    assert after.force_mae is not None
    assert len(after.std) == 8


def test_a_round_whose_labels_all_failed_says_so(campaign: Campaign) -> None:
    campaign.advance()
    for name in campaign.ask():
        campaign.tell(name, Failure("no licence"))
    with pytest.raises(CampaignError, match="all 6 labels of round 1 failed; the first: no licence"):
        campaign.advance()


def test_a_failed_label_is_tried_again_after_a_pause_and_then_given_up(campaign: Campaign) -> None:
    rules = LabelRules(retries=2, retry_wait=0.1, minimum=0.5)
    campaign = with_plan(campaign, label_rules=rules)
    campaign.advance()
    calls: dict[str, list[float]] = {}
    bad, hopeless = list(campaign.ask())[:2]

    class Moody:
        """Fails twice for one structure, always for another, at once and for good for none."""

        method = "emt"

        def __call__(self, todo):
            for name, atoms in todo.items():
                calls.setdefault(name, []).append(time.time())
                if name == hopeless or (name == bad and len(calls[name]) < 3):
                    yield name, Failure("SCF did not converge", core_seconds=2.0)
                else:
                    yield name, compute(CalculatorSpec("ase.calculators.emt.EMT"), atoms)

    record = campaign.step(Moody())
    assert [len(calls[name]) for name in (bad, hopeless)] == [3, 3]
    assert all(len(times) == 1 for name, times in calls.items() if name not in (bad, hopeless))
    first, second, third = calls[bad]
    assert second - first >= 0.1
    assert third - second >= 0.2
    assert (record.labels, record.paid, record.failed) == (9, 5, 1)
    assert record.notes == ["the round went on with 5 of 6 labels: 1 failed"]
    assert record.core_seconds["labelling"] >= 2 * 2.0 + 3 * 2.0
    assert list(read_campaign(campaign.folder).failures) == [hopeless]


def test_a_failure_that_is_final_is_not_tried_again(campaign: Campaign) -> None:
    campaign = with_plan(campaign, label_rules=LabelRules(retries=5, retry_wait=1000))
    campaign.advance()
    names = list(campaign.ask())
    campaign.tell(names[0], Failure("forces of shape (2, 3) for 3 atoms", final=True))
    campaign.tell(names[1], Failure("no licence"))
    assert set(campaign.ask()) == {*names[1:]}


def test_too_few_labels_stop_the_round_until_a_person_has_looked(campaign: Campaign) -> None:
    campaign.advance()
    todo = campaign.ask()
    spec = CalculatorSpec("ase.calculators.emt.EMT")
    for number, (name, atoms) in enumerate(todo.items()):
        campaign.tell(name, Failure("no licence") if number < 4 else compute(spec, atoms))
    with pytest.raises(CampaignError, match="only 2 of 6 labels of round 1 can be used: 4 failed"):
        campaign.advance()
    for name in list(todo)[:4]:
        assert campaign.ledger.release(name) == "failure"
    assert list(campaign.ask()) == list(todo)[:4]
    for name, atoms in campaign.ask().items():
        campaign.tell(name, compute(spec, atoms))
    assert campaign.advance().labels == 10


def test_suspicious_labels_are_held_back_until_they_are_released(campaign: Campaign) -> None:
    campaign.advance()
    todo = campaign.ask()
    spec = CalculatorSpec("ase.calculators.emt.EMT")
    odd, doubted = list(todo)[:2]
    for name, atoms in todo.items():
        labels = compute(spec, atoms)
        if name == odd:
            labels = replace(labels, forces=labels.forces * 1e4)
        if name == doubted:
            labels = replace(labels, doubt="the SCF did not converge")
        campaign.tell(name, labels)
    record = campaign.advance()
    assert (record.labels, record.paid, record.quarantined) == (8, 6, 2)
    held = read_campaign(campaign.folder).quarantined
    assert held[doubted] == "the SCF did not converge"
    assert "above the limit of 100" in held[odd]
    trained = ase.io.read(campaign.folder / "rounds/001/train.extxyz", ":")
    assert not {odd, doubted} & {structure_id(atoms) for atoms in trained}
    assert len(campaign.ledger) == 6  # they were paid for: the journal keeps them
    assert campaign.ledger.release(odd) == "label"
    again = Campaign(campaign.folder, campaign.plan, "emt")
    assert odd in again.ledger.trusted
    assert again.ledger.released(odd)
    assert doubted not in again.ledger.trusted


def test_a_round_records_its_cost_and_the_gain_of_the_next(campaign: Campaign) -> None:
    stopping = Stopping(rounds=3, min_gain=1e-9, core_hours=100)
    campaign = with_plan(campaign, stopping=stopping, training_cores=2)
    before = campaign.advance()
    assert before.core_seconds == {}
    assert before.predicted_gain is not None
    assert 0 < before.predicted_gain < 100
    for name, atoms in campaign.ask().items():
        campaign.tell(
            name, replace(compute(CalculatorSpec("ase.calculators.emt.EMT"), atoms), core_seconds=30.0)
        )
    record = campaign.advance()
    assert record.core_seconds["labelling"] == 180.0
    assert record.core_seconds["training"] == pytest.approx(2 * record.seconds["training"], abs=0.1)
    assert read_campaign(campaign.folder).core_hours * 3600 == pytest.approx(
        sum(record.core_seconds.values())
    )
    assert campaign.stopped is None
    campaign = with_plan(campaign, stopping=stopping.model_copy(update={"core_hours": 180 / 3600}))
    assert "core-hour budget used" in str(campaign.stopped)
    campaign = with_plan(campaign, stopping=stopping.model_copy(update={"min_gain": 99.0}))
    assert "is below 99 %" in str(campaign.stopped)


def test_another_method_or_another_pool_is_refused(campaign: Campaign) -> None:
    campaign.advance()
    campaign.ask()
    with pytest.raises(CampaignError, match="started with method emt, now it is dft"):
        Campaign(campaign.folder, campaign.plan, "dft")
    write_structures(campaign.folder.parent / "pool.extxyz", rattled(30, seed=77))
    with pytest.raises(CampaignError, match=r"pool.extxyz \(pool\): 30 frames as before; frame 0 differs"):
        Campaign(campaign.folder, campaign.plan, "emt")


def test_a_second_process_is_turned_away_and_status_still_works(tmp_path: Path, model_file: Path) -> None:
    config = write_config(tmp_path, model_file, tmp_path / "calls")
    folder = tmp_path / "c"
    with CampaignLock(folder):
        second = run(config, folder)
        _, err = second.communicate()
        assert second.returncode == 2
        assert f"in the hands of process {os.getpid()}" in err
        with pytest.raises(CampaignError, match="in the hands of"), CampaignLock(folder):
            pass
    with CampaignLock(folder):
        pass


def test_a_lock_of_another_host_is_respected(tmp_path: Path) -> None:
    (tmp_path / "owner.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(CampaignError, match="on another machine, elsewhere"), CampaignLock(tmp_path):
        pass


def test_a_file_system_without_locks_is_guarded_by_the_owner_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("surveyor.campaign.lock.fcntl.flock", no_locks)
    with CampaignLock(tmp_path), pytest.raises(CampaignError, match="in the hands of"):
        CampaignLock(tmp_path).__enter__()
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    (tmp_path / "owner.lock").write_text(json.dumps({"host": socket.gethostname(), "pid": done.pid}))
    with CampaignLock(tmp_path):  # its owner is dead
        pass


def test_limits() -> None:
    limits = Stopping(rounds=5, labels=20, energy_mae=2.0, force_mae=50.0)
    assert limits.reason(rounds=1, labels=10, energy_mae=1.0, force_mae=60.0) is None
    assert "target error" in str(limits.reason(rounds=1, labels=10, energy_mae=1.0, force_mae=50.0))
    assert "label budget" in str(limits.reason(rounds=1, labels=20, energy_mae=9.0, force_mae=60.0))
    assert "rounds done" in str(limits.reason(rounds=5, labels=10, energy_mae=9.0, force_mae=60.0))
    costs = {"rounds": 1, "labels": 1, "energy_mae": None, "force_mae": None}
    assert "core-hour budget used: 2.5 of 2" in str(Stopping(core_hours=2).reason(**costs, core_hours=2.5))
    assert Stopping(core_hours=2).reason(**costs, core_hours=1.9) is None
    assert "wall time used: 3 of 3 h" in str(Stopping(wall_hours=3).reason(**costs, wall_hours=3.0))
    assert Stopping(wall_hours=3).reason(**costs, wall_hours=2.9) is None
    assert "predicted gain 0.2 % per label is below 0.5 %" in str(
        Stopping(min_gain=0.5).reason(**costs, gain=0.2)
    )
    assert Stopping(min_gain=0.5).reason(**costs, gain=0.6) is None
    assert Stopping(min_gain=0.5).reason(**costs) is None  # nobody has asked for a forecast
    assert Stopping(rounds=None).reason(rounds=99, labels=999, energy_mae=None, force_mae=None) is None
    assert limits.batch(8, 15) == 5
    assert limits.batch(8, 3) == 8


def test_validation_structures_keep_their_side() -> None:
    structures = {structure_id(atoms): atoms for atoms in rattled(60, seed=0)}
    few = dict(list(structures.items())[:30])
    _, small = split_validation(few, 0.2, seed=0)
    train, large = split_validation(structures, 0.2, seed=0)
    assert {structure_id(a) for a in small} <= {structure_id(a) for a in large}
    assert len(train) + len(large) == 60
    assert 3 <= len(large) <= 25
    one = dict(list(structures.items())[:3])
    assert split_validation(one, 0.0, seed=0)[1] == []
    assert split_validation(dict(reversed(structures.items())), 0.2, seed=0) == (
        train,
        large,
    )  # as they arrive
    assert len(split_validation(dict(list(structures.items())[:10]), 0.001, seed=0)[1]) == 1


def test_damaged_and_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="is not a campaign"):
        read_campaign(tmp_path)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(CampaignError, match="cannot be read"):
        read_campaign(tmp_path)
    (tmp_path / "state.json").write_text('{"schema": 99}')
    with pytest.raises(CampaignError, match="schema 99"):
        read_campaign(tmp_path)
