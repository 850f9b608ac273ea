"""`surveyor doctor --campaign`: plan, disk, calculator and scheduler, with real worker processes."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from conftest import emt_labelled, rattled
from surveyor.cli import app
from surveyor.doctor import campaign as checks
from surveyor.doctor.dataset import Role, dataset_of
from surveyor.doctor.findings import Level
from surveyor.doctor.scheduler import partition_verdict, reachable, scheduler, slurm
from surveyor.labelling import CalculatorSpec
from surveyor.structures import write_structures
from surveyor.types import Failure, Labels

EMT = "ase.calculators.emt:EMT"


@pytest.fixture
def folder(tmp_path: Path, model_file: Path) -> Path:
    """A campaign without faults: EMT labels, a tiny potential."""
    pool, start, test = (
        rattled(40, seed=1),
        emt_labelled(rattled(12, seed=2)),
        emt_labelled(rattled(8, seed=3)),
    )
    for atoms in (*pool, *start, *test):
        atoms.info |= {"total_charge": 0, "total_spin": 1}
    for name, frames in (("pool", pool), ("start", start), ("test", test)):
        write_structures(tmp_path / f"{name}.extxyz", frames)
    settings = {
        "pool": "pool.extxyz", "start": "start.extxyz", "test": "test.extxyz", "model": str(model_file),
        "labels": {"calculator": EMT}, "selection": {"batch": 5}, "stop": {"rounds": 2},
    }  # fmt: skip
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def change(folder: Path, **settings: Any) -> None:
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **settings}))


def doctor(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    outcome = CliRunner().invoke(app, ["doctor", *map(str, arguments), "--json"])
    assert outcome.exit_code in (0, 1), outcome.output
    return outcome.exit_code, json.loads(outcome.stdout)


def found(report: dict[str, Any], check: str, level: str) -> list[str]:
    return [f["found"] for f in report["findings"] if f["check"] == check and f["level"] == level]


def test_a_campaign_without_faults(folder: Path) -> None:
    code, report = doctor("--campaign", folder / "campaign.yaml")
    assert code == 0
    assert report["ok"]
    # the potential is untrained: only that may be said
    warned = {f["check"] for f in report["findings"] if f["level"] == "warning"}
    assert warned <= {"force unit", "energy unit"}
    for check in ("configuration", "test set", "validation", "plan", "disk", "charges", "calculator"):
        assert found(report, check, "ok"), check
    assert len(found(report, "level of theory", "ok")) == 2
    assert len(found(report, "leakage", "ok")) == 2


def test_many_faults_at_once(folder: Path) -> None:
    test = emt_labelled(rattled(8, seed=3))
    other_method = emt_labelled(rattled(12, seed=2))
    for atoms in other_method:
        atoms.arrays["REF_forces"] *= 1.3
    write_structures(folder / "start.extxyz", other_method)
    pool = rattled(6, seed=1)
    for atoms in pool:
        atoms.info |= {"total_charge": -1, "total_spin": 2}
    write_structures(folder / "pool.extxyz", [*pool, test[0]])
    change(
        folder,
        stop={"rounds": 9},
        target="nowhere.extxyz",
        selection={"batch": 5, "rule": "target-variance"},
    )
    code, report = doctor("--campaign", folder / "campaign.yaml")
    assert code == 1
    assert not report["ok"]
    assert "no such file" in found(report, "readable", "error")[0]
    assert "1 of 8 test frames are in pool.extxyz" in found(report, "leakage", "error")[0]
    assert "total_charge and total_spin" in found(report, "charges", "error")[0]
    assert "nothing is left to choose" in found(report, "plan", "warning")[0]
    assert "differ by up to" in found(report, "level of theory", "warning")[0]


@pytest.mark.parametrize(
    ("settings", "check", "level", "says"),
    [
        ({"labels": {"calculater": EMT}}, "configuration", "error", "labels.calculater"),
        ({"labels": {"calculator": "no_such.module:Thing"}}, "calculator", "error", "cannot be imported"),
        ({"test": None}, "test set", "warning", "no test set"),
        ({"test": None, "stop": {"force_mae": 20}}, "test set", "error", "never reached"),
        ({"start": None, "selection": {"batch": 2}}, "validation", "warning", "none validates"),
        ({"test": "pool.extxyz"}, "keys", "error", "no energies"),
        ({"model": "missing.model"}, "opens", "error", "no potential"),
    ],
)
def test_a_fault_of_the_campaign_file(
    settings: dict[str, Any], check: str, level: str, says: str, folder: Path
) -> None:
    change(folder, **({"labels": {"calculator": "no_such.module:Thing"}} | settings))  # no worker is needed
    code, report = doctor("-c", folder / "campaign.yaml")
    assert code == 1
    assert says in found(report, check, level)[0]


def test_a_folder_without_a_campaign(tmp_path: Path, model_file: Path) -> None:
    code, report = doctor("-c", tmp_path, "--model", model_file)
    assert code == 1
    assert "config.yaml" in found(report, "configuration", "error")[0]


def test_trials_end_in_time() -> None:
    frames = rattled(4, seed=0, names=("NH3", "H2O", "CH4"))
    spec = CalculatorSpec(EMT)
    first, second = checks.try_calculator(spec, frames[:2], 60)
    assert isinstance(first, Labels)
    assert isinstance(second, Labels)
    expected = emt_labelled(frames[:1])[0]
    np.testing.assert_allclose(first.forces, expected.arrays["REF_forces"], atol=1e-10)

    (raised,) = checks.try_calculator(
        CalculatorSpec("calculators:FailingEMT", {"how": "raise"}), frames[1:], 60
    )
    assert raised == Failure("RuntimeError: SCF did not converge", core_seconds=raised.core_seconds)
    assert checks.calculator(raised, 3, 1, 10, 60).level is Level.ERROR

    (died,) = checks.try_calculator(CalculatorSpec("calculators:FailingEMT", {"how": "die"}), frames[1:2], 60)
    assert isinstance(died, Failure)
    assert "exit code 3" in died.reason


def test_a_calculator_that_hangs_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    spec = CalculatorSpec("calculators:CountingEMT", {"log": str(log), "seconds": 600})
    (trial,) = checks.try_calculator(spec, rattled(1, seed=0), 0.3)
    assert trial.core_seconds < 30
    assert not log.exists()
    assert checks.calculator(trial, 3, 0, 10, 0.3).level is Level.WARNING


def test_disk() -> None:
    assert checks.disk(10**9, 10**8).level is Level.OK
    assert checks.disk(2 * 10**8, 10**8).level is Level.WARNING
    assert checks.disk(10**7, 10**8).level is Level.ERROR
    assert checks.free_bytes(Path("/no/such/folder")) > 0


def test_a_level_of_theory_that_cannot_be_tried() -> None:
    level = checks.same_level(dataset_of("a", emt_labelled(rattled(1, seed=0)), Role.START), 0, Failure("x"))
    assert level.level is Level.NOT_CHECKED


# ---- schedulers -----------------------------------------------------------------------------------------


def test_engines_of_this_machine_need_no_scheduler() -> None:
    assert scheduler(None).level is Level.NOT_CHECKED
    assert scheduler(SimpleNamespace(kind="local")).level is Level.NOT_CHECKED
    assert scheduler(SimpleNamespace(kind="dask", scheduler=None)).level is Level.NOT_CHECKED
    assert scheduler(SimpleNamespace(kind="parsl", blocks=0)).level is Level.NOT_CHECKED


def test_slurm_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    verdict = scheduler(SimpleNamespace(kind="slurm", partition=None))
    assert verdict.level is Level.ERROR
    assert "sinfo and sbatch not on PATH" in verdict.found


@pytest.mark.parametrize(
    ("script", "level", "says"),
    [
        ("echo 'Unable to contact slurm controller' >&2; exit 1", Level.ERROR, "contact"),
        ("echo 'short|idle|4'; echo 'long|down*|2'", Level.OK, "4 nodes up"),
    ],
)
def test_what_sinfo_answers(
    script: str, level: Level, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command line tool's two ways to end, by a program of that name."""
    for name in ("sinfo", "sbatch"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    verdict = slurm(None)
    assert verdict.level is level
    assert says in verdict.found


def test_partitions() -> None:
    listing = "short|idle|4\nshort|mixed|1\nlong|down*|2\n"
    assert "5 nodes up in short" in partition_verdict(listing, "short").found
    assert partition_verdict(listing, None).level is Level.OK
    assert partition_verdict(listing, "long").level is Level.ERROR
    assert partition_verdict(listing, "gpu").todo == "one of long, short"
    assert partition_verdict("", None).level is Level.ERROR


def test_a_dask_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert reachable(f"tcp://127.0.0.1:{port}").level is Level.OK
    assert reachable(f"tcp://127.0.0.1:{port}").level is Level.ERROR


# ---- the table ------------------------------------------------------------------------------------------


def test_table_and_exit_codes(folder: Path) -> None:
    arguments = ["doctor", str(folder / "start.extxyz"), "--model", str(folder / "missing.model")]
    broken = CliRunner().invoke(app, arguments)
    assert broken.exit_code == 1
    assert "1 error" in broken.stdout
    assert "→" in broken.stdout
    assert CliRunner().invoke(app, ["doctor", "--time-limit", "0"]).exit_code == 2
