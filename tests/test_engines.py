"""Engines for real: Slurm, Dask and Parsl, with the submitter or the workers killed half-way."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT

from surveyor.errors import LabellingError
from surveyor.labelling import CalculatorSpec, DaskEngine, EngineLabeller, Ledger, SlurmEngine

TESTS = Path(__file__).parent
RUN = TESTS / "labelling_run.py"


def start(folder: Path, n: int, engine: dict[str, object], seconds: float = 0.2) -> subprocess.Popen[str]:
    """A submitting process that labels n structures; see labelling_run.py."""
    folder.mkdir(exist_ok=True)
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (folder / "errors").open("a") as errors:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", str(RUN), str(folder), str(n), json.dumps(engine), str(seconds)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )


def read_until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            return
    pytest.fail(f"the submitter ended before it said {line!r}")


def check(folder: Path, n: int) -> Counter[str]:
    """No label is lost, and each is right; how often each was computed."""
    ledger = Ledger(folder / "labels", "emt", read_only=True)
    assert len(ledger) == n, (folder / "errors").read_text()[-3000:]
    for atoms in ledger.structures.values():
        trial = atoms.copy()
        trial.calc = EMT()
        assert atoms.info["REF_energy"] == pytest.approx(trial.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], trial.get_forces(), atol=1e-6)
    calls = Counter((folder / "calls").read_text().split())
    assert calls.keys() == ledger.structures.keys()
    assert not [
        path for path in (folder / "spool").rglob("*.*") if path.suffix in (".order", ".claim", ".json")
    ]
    return calls


def workers_of(spool: Path) -> dict[int, int]:
    """Workers that compute something now, by their claims: process id → id of the engine's process above."""
    found = {}
    for claim in spool.rglob("*.claim"):
        try:
            pid = int(json.loads(claim.read_text())["pid"])
            found[pid] = parent_of(parent_of(pid))  # the keeper is between them
        except (OSError, ValueError):
            continue
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# ---- what needs no cluster ----------------------------------------------------------------------------


def test_an_engine_that_is_not_there_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = CalculatorSpec("ase.calculators.emt.EMT")
    structures = {"0" * 32: object()}
    for engine, package in ((SlurmEngine(), "executorlib"), (DaskEngine(), "distributed")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(LabellingError, match=rf"needs the package {package}(.|\n)*pip install 'surveyor"):
            list(EngineLabeller(spec, engine, spool=tmp_path)(structures))


def test_the_job_script_asks_slurm_for_what_was_asked() -> None:
    script = SlurmEngine(cores=4, partition="long", hours=36, memory=7.5, options=("--qos=low",)).script()
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    for setting in ("--cpus-per-task=4", "--partition=long", "--time=2160", "--mem=7680M", "--qos=low"):
        assert f"#SBATCH {setting}" in lines
    assert lines[-1] == "{{command}}"
    assert not any("account" in line for line in lines)


# ---- Slurm ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Slurm of one node on this machine; its slurm.conf is in the environment."""
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("slurmd needs root")
    for package in ("executorlib", "pysqa"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package}: pip install 'surveyor[slurm]'")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    subprocess.run([TESTS / "slurm" / "start.sh", folder], check=True, timeout=120)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield folder
    subprocess.run([TESTS / "slurm" / "stop.sh", folder], check=False, timeout=120)
    if before is None:
        del os.environ["SLURM_CONF"]
    else:
        os.environ["SLURM_CONF"] = before


@pytest.mark.slurm
def test_fifty_labels_through_slurm_with_the_submitter_killed_half_way(tmp_path: Path, slurm: Path) -> None:
    engine = {"kind": "slurm", "workers": 8}
    first = start(tmp_path / "c", 50, engine)
    read_until(first, "labelled 25")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    queued = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True)
    at_death = len(queued.stdout.splitlines())
    time.sleep(5)  # jobs end while nobody looks
    kept = len(Ledger(tmp_path / "c" / "labels", "emt", read_only=True))
    harvested = len(list((tmp_path / "c" / "spool").rglob("*.json")))
    second = start(tmp_path / "c", 50, engine)
    second.communicate()
    assert second.returncode == 0
    calls = check(tmp_path / "c", 50)
    jobs = (slurm / "slurmctld.log").read_text().count("_slurm_rpc_submit_batch_job")
    print(
        f"\nSlurm: 50 labels wanted, 50 in the ledger; submitter killed with {kept} labels in the ledger and "
        f"{at_death} jobs in the queue; {harvested} results waited in the spool after 5 s\n"
        f"       {sum(calls.values())} calculations, {sum(calls.values()) - 50} of them twice; "
        f"{jobs} jobs submitted"
    )
    assert calls == dict.fromkeys(calls, 1)
    assert at_death > 0
    assert jobs <= 50 + engine["workers"]


# ---- Dask and Parsl -------------------------------------------------------------------------------------


@pytest.mark.engines
@pytest.mark.parametrize(
    ("package", "engine"),
    [("distributed", {"kind": "dask", "workers": 2}), ("parsl", {"kind": "parsl", "workers": 2})],
)
@pytest.mark.parametrize("victim", ["engine", "worker", "submitter"])
def test_processes_killed_in_the_middle_of_a_job(
    tmp_path: Path, package: str, engine: dict[str, object], victim: str
) -> None:
    pytest.importorskip(package)
    folder = tmp_path / "c"
    process = start(folder, 10, engine, seconds=2.0)
    read_until(process, "labelled 2")
    deadline = time.monotonic() + 120
    while not (owners := workers_of(folder / "spool")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)  # in the middle of the next jobs
    if victim == "submitter":
        process.kill()
        process.wait()  # not communicate(): what outlives it may hold its end of the pipe
        assert process.stdout is not None
        process.stdout.close()
        process = start(folder, 10, engine, seconds=2.0)  # the same method, or it would be another label
    elif victim == "engine":
        for owner in set(owners.values()):
            os.kill(owner, signal.SIGKILL)
    else:
        os.killpg(min(owners), signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == 0, (folder / "errors").read_text()[-3000:]
    calls = check(folder, 10)
    print(
        f"\n{package}, {victim} killed: 10 labels, {sum(calls.values())} calculations, "
        f"{output.count('failed')} failures"
    )
    assert calls == dict.fromkeys(calls, 1)  # a killed calculation wrote nothing
