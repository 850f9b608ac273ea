"""Workers: a folder for each calculation, a log for what is printed, and an end for all that was started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase import Atoms
from ase.io import read

from conftest import rattled
from surveyor.keeper import LINUX
from surveyor.labelling import CalculatorSpec, EngineLabeller, LocalEngine, worker
from surveyor.labelling.scratch import FILES, KEPT, KEPT_BYTES, LOG, keep
from surveyor.structures import structure_id, write_structures
from surveyor.types import Failure, Labels

TESTS = Path(__file__).parent
SURVEYOR = [sys.executable, "-W", "ignore", "-m", "surveyor.cli"]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)


def label(
    folder: Path, act: str, n: int = 1, limit: float | None = None, **settings: str
) -> dict[str, Labels | Failure]:
    spec = CalculatorSpec("calculators:Stubborn", {"act": act, **settings})
    labeller = EngineLabeller(
        spec, LocalEngine(processes=2), spool=folder / "spool", failed=folder / "failed", time_limit=limit
    )
    return dict(labeller({structure_id(a): a for a in rattled(n, 3)}))


def gone(pid: int, patience: float = 5.0) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_each_calculation_is_in_an_empty_folder_of_its_own_that_goes(tmp_path: Path) -> None:
    act = f"""
import os, pathlib, tempfile, time
here = pathlib.Path.cwd()
assert sorted(p.name for p in here.iterdir()) == ['output.log'], list(here.iterdir())
pathlib.Path('prog.in').write_text('x')
assert pathlib.Path(tempfile.mkdtemp()).parent == here == pathlib.Path(os.environ['TMPDIR'])
with open({str(tmp_path / "log")!r}, 'a') as file: file.write(f'{{here}}\\n')
time.sleep(0.1)
assert pathlib.Path('prog.in').read_text() == 'x'
"""
    results = label(tmp_path, act, n=6)
    assert all(isinstance(result, Labels) for result in results.values()), results
    folders = (tmp_path / "log").read_text().split()
    assert len(set(folders)) == 6
    assert not [folder for folder in folders if Path(folder).exists()]
    assert not (tmp_path / "failed").exists()


def test_what_a_failed_calculation_left_is_kept_and_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    act = "import os; print('words'); os.system('echo shell'); open('prog.out', 'w').write('SCF'); 1 / 0"
    ((name, result),) = label(tmp_path, act).items()
    assert isinstance(result, Failure)
    reason, _, place = result.reason.partition(FILES)
    assert reason == "ZeroDivisionError: division by zero"
    folder = Path(place)
    assert folder.parent == tmp_path / "failed"
    assert folder.name.startswith(name)
    assert (folder / "prog.out").read_text() == "SCF"
    assert set((folder / LOG).read_text().split()) >= {"words", "shell"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("act", "reason"), [("time.sleep(60)", "time limit"), ("os._exit(3)", "exit code 3")]
)
def test_files_of_a_killed_calculation_are_kept_too(tmp_path: Path, act: str, reason: str) -> None:
    (result,) = label(tmp_path, f"import os, time; print('begun', flush=True); {act}", limit=1.5).values()
    assert isinstance(result, Failure)
    assert reason in result.reason
    assert (Path(result.reason.partition(FILES)[2]) / LOG).read_text() == "begun\n"


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    victim, kept = tmp_path / "victim", tmp_path / "kept"
    victim.write_text("secret")
    (kept / "mine").mkdir(parents=True)
    for number in range(KEPT + 5):
        scratch = tmp_path / f"scratch-{number:04d}"
        (scratch / "sub").mkdir(parents=True)
        (scratch / "sub" / "small").write_text("small")
        (scratch / "link").symlink_to(victim)
        os.mkfifo(scratch / "pipe")
        (scratch / "large").touch()
        os.truncate(scratch / "large", KEPT_BYTES + 1)
        (scratch / LOG).write_text("x" * 300_000 + "the end")
        place = Path(keep(scratch, kept, "a" * 32).removeprefix(FILES))
        assert not scratch.exists()
        assert sorted(p.name for p in place.rglob("*")) == [LOG, "small", "sub"]
        assert (place / LOG).read_text().endswith("the end")
        assert (place / LOG).stat().st_size <= 200_000
    assert len([p for p in kept.iterdir() if p.name != "mine"]) == KEPT
    assert (kept / "mine").is_dir()


STRAY = """
import os, subprocess, sys, time
code = "import time; time.sleep(600)"
for new in (False, True):
    child = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=new)
    open(LOG, "a").write(f"{child.pid}\\n")
if os.fork() == 0:  # a daemon: its parent is gone, its session its own
    os.setsid()
    if os.fork() == 0:
        open(LOG, "a").write(f"{os.getpid()}\\n")
        os.execv(sys.executable, [sys.executable, "-S", "-c", code])
    os._exit(0)
time.sleep(0.5)
"""


@pytest.mark.skipif(not LINUX, reason="only Linux lets a process adopt what others leave behind")
@pytest.mark.parametrize(
    "end", ["", "raise ValueError", "time.sleep(600)", "os._exit(3)", "os.kill(os.getpid(), 9)", "os.abort()"]
)
def test_nothing_that_a_calculation_started_goes_on(tmp_path: Path, end: str) -> None:
    log = tmp_path / "log"
    (result,) = label(tmp_path, STRAY.replace("LOG", repr(str(log))) + end, limit=4.0).values()
    assert isinstance(result, Failure if end else Labels)
    pids = [int(line) for line in log.read_text().split()]
    assert len(pids) == 3
    assert all(gone(pid) for pid in pids)


def test_a_calculation_that_left_processes_harms_no_later_one(tmp_path: Path) -> None:
    act = "import subprocess; subprocess.Popen(['sleep', '600'])"
    results = label(tmp_path, act, n=3)
    assert all(isinstance(result, Labels) for result in results.values()), results


def test_a_result_on_disk_beats_the_time_limit(tmp_path: Path) -> None:
    """The worker has written its result; the news of it comes long after the limit."""
    act = """
from multiprocessing.connection import Connection
import time
def send(self, message, told=Connection.send):
    time.sleep(0 if message == "begun" else 30)
    told(self, message)
Connection.send = send
"""
    begin = time.monotonic()
    (result,) = label(tmp_path, act, limit=1.0).values()
    assert isinstance(result, Labels)
    assert result.energy == 1.5
    assert time.monotonic() - begin < 25
    assert not (tmp_path / "failed").exists()


def test_the_current_folder_is_not_imported_from(tmp_path: Path) -> None:
    """Neither by the command, however it is started, nor by its workers."""
    mark = tmp_path / "EXECUTED"
    data = tmp_path / "data"
    data.mkdir()
    for name in ("yaml", "typer", "numpy", "ase", "sitecustomize", "usercustomize", "calculators"):
        (data / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write(__name__)\n")
    write_structures(data / "pool.extxyz", rattled(1, 1))
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    environment.pop("PYTHONSAFEPATH", None)
    act = "import sys; assert '' not in sys.path and all('data' not in p for p in sys.path), sys.path"
    command = [*SURVEYOR, "label", "pool.extxyz", "-o", "out.extxyz", "-c", "calculators:Stubborn", "--json"]
    done = subprocess.run(
        [*command, "--processes", "1", "-s", f"act={act!r}"],
        cwd=data, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout)["new"] == 1
    assert not mark.exists(), mark.read_text()
    assert read(data / "out.extxyz").info["REF_energy"] == 1.5


def test_the_import_path_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", str(tmp_path), "/named", "relative"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "thing", "x"])
    monkeypatch.setattr(sys, "argv", ["/x/thing.py", "x"])
    assert worker.import_path() == ["/named"]
    monkeypatch.setattr(sys, "orig_argv", ["python", "/x/thing.py", "-m"])
    monkeypatch.setattr(sys, "argv", ["/x/thing.py", "-m"])
    assert worker.import_path() == [str(tmp_path), "/named"]


def test_relative_files_of_the_settings_are_found_from_the_scratch_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.txt").write_text("7")
    spec = CalculatorSpec("calculators:Weighted", {"model": "weights.txt"})
    structures = {structure_id(a): a for a in rattled(1, 3)}
    (result,) = dict(
        EngineLabeller(spec, LocalEngine(processes=1), spool=tmp_path / "spool")(structures)
    ).values()
    assert isinstance(result, Labels)
    assert result.energy == 7.0


def test_single_atoms_and_empty_messages(tmp_path: Path) -> None:
    spec = CalculatorSpec("calculators:Stubborn", {"act": "raise RuntimeError"})
    atom = Atoms("H")
    (result,) = dict(
        EngineLabeller(spec, LocalEngine(processes=1), spool=tmp_path)({structure_id(atom): atom})
    ).values()
    assert result == Failure("RuntimeError: no message", core_seconds=result.core_seconds)
