"""A hundred kills at random moments, full disks, and calculators that raise, hang and return NaN.

At the end no label is lost, none is computed twice beyond the job that was killed, and what is on disk equals
what an undisturbed run leaves. `make test-chaos` prints the counts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calculators import mood
from surveyor.campaign import read_campaign
from surveyor.labelling import Ledger
from test_campaign import labels_in, run, write_config
from test_engines import workers_of

pytestmark = pytest.mark.chaos

TESTS = Path(__file__).parent
SUBMITTER, WORKER, DISK, CAMPAIGN = 50, 40, 10, 10
N = 160
SEED = 20260101


class Run:
    """A run of chaos_run.py; counts what it says."""

    def __init__(self, folder: Path, calls: Path) -> None:
        paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.errors = calls.with_suffix(".errors")
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", TESTS / "chaos_run.py", folder, calls, str(N)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.told, self.last = 0, ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told += line == "told\n"
            self.last = line.strip()

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.kill()
        self.finish()

    def finish(self) -> int:
        code = self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A tmpfs of 4 MB to fill; None where it cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    yield folder
    subprocess.run(["umount", "-l", folder], check=False)


def fill(path: Path) -> None:
    """Take all the space that is left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def outcome(folder: Path) -> tuple[dict[str, float], dict[str, float], list[str], dict[str, str]]:
    ledger = Ledger(folder / "labels", "emt", read_only=True)
    energies = {name: atoms.info["REF_energy"] for name, atoms in ledger.structures.items()}
    forces = {name: float(np.abs(a.arrays["REF_forces"]).sum()) for name, a in ledger.structures.items()}
    return energies, forces, sorted(ledger.failures), ledger.quarantined


def counts(calls: Path, what: str) -> Counter[str]:
    lines = [line.split() for line in calls.read_text().splitlines()]
    return Counter(line[1] for line in lines if line[0] == what)


def test_ninety_kills_of_the_labelling(tmp_path: Path, small_disk: Path | None) -> None:
    begin = time.monotonic()
    quiet_calls, calls = tmp_path / "quiet.calls", tmp_path / "calls"
    quiet = Run(tmp_path / "quiet", quiet_calls)
    assert quiet.finish() == 0, quiet.errors.read_text()[-2000:]
    folder = (small_disk or tmp_path) / "c"
    random = np.random.default_rng(SEED)
    events = ["submitter"] * SUBMITTER + ["worker"] * WORKER + ["disk"] * (DISK if small_disk else 0)
    random.shuffle(events)
    done, in_hand, runs, messages, early = Counter[str](), Counter[str](), 1, 0, 0
    current = Run(folder, calls)
    for event in events:
        target = current.told + int(random.integers(0, 3))
        while current.told < target and not current.over:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.5))
        if event == "worker":
            while not current.over and not (busy := workers_of(folder / "spool")):
                time.sleep(0.02)
            if not current.over:
                victim = int(random.choice(sorted(busy)))
                os.kill(victim, signal.SIGSTOP)  # what it has in hand now is what it dies with
                in_hand[claimed_by(folder, victim)] += 1
                os.killpg(victim, signal.SIGKILL)
        elif event == "submitter":
            early += current.over
            current.kill()
        else:
            fill(folder.parent / "filler")
            end = time.monotonic() + 4
            while not current.over and time.monotonic() < end:
                time.sleep(0.05)
            (folder.parent / "filler").unlink()
        done[event] += 1
        if current.over:
            messages += current.finish() == 2
            current, runs = Run(folder, calls), runs + 1
    code = current.finish()
    while code == 2:
        current, runs = Run(folder, calls), runs + 1
        code = current.finish()
    assert code == 0, current.errors.read_text()[-2000:]
    assert current.last == quiet.last

    ends, wanted = counts(calls, "end"), counts(quiet_calls, "end")
    once = {name for name in wanted if mood(name) != "raise"}  # what raises is tried again on purpose
    twice = {name: ends[name] - 1 for name in once if ends[name] > 1}
    undisturbed, disturbed = outcome(tmp_path / "quiet"), outcome(folder)
    lost = set(undisturbed[0]) - set(disturbed[0])
    killed_twice = sum(min(count, in_hand[name]) for name, count in twice.items())
    print(
        f"\nchaos: labelling of {N} structures; some calculations raise, hang, give NaN or nonsense\n"
        f"  SIGKILL to the submitting process  {done['submitter']:>4}  (after it had ended: {early})\n"
        f"  SIGKILL to a worker                {done['worker']:>4}\n"
        f"  full disk                          {done['disk']:>4}  (runs that it ended: {messages})"
        + ("" if small_disk else "  skipped: no tmpfs can be mounted without root")
        + f"\n  runs of the command                {runs:>4}\n"
        f"  labels wanted, in the journal      {len(undisturbed[0]):>4}  {len(disturbed[0])}\n"
        f"  labels lost                        {len(lost):>4}\n"
        f"  finished calculations done again   {sum(twice.values()):>4}  (worker killed: {killed_twice})\n"
        f"  at the end: {current.last}; undisturbed: {quiet.last}\n"
        f"  {time.monotonic() - begin:.0f} s"
    )
    assert lost == set()
    assert disturbed == undisturbed
    for name, count in twice.items():  # only a calculation whose worker was killed may be done again
        assert count <= in_hand[name], name
    assert not [path for path in (folder / "spool").rglob("*") if path.is_file()]


def claimed_by(folder: Path, pid: int) -> str:
    """The structure that a worker has in hand."""
    for claim in (folder / "spool").rglob("*.claim"):
        try:
            if json.loads(claim.read_text())["pid"] == pid:
                return claim.stem
        except (OSError, ValueError):
            continue
    return "none"


def test_ten_kills_of_whole_campaigns(tmp_path: Path, model_file: Path) -> None:
    begin = time.monotonic()
    log = tmp_path / "calls"
    config = write_config(tmp_path, model_file, log)
    quiet = run(config, tmp_path / "quiet")
    _, err = quiet.communicate()
    assert quiet.returncode == 0, err
    whole = time.monotonic() - begin
    undisturbed = labels_in(tmp_path / "quiet")
    rounds = [record.labels for record in read_campaign(tmp_path / "quiet").rounds]
    random, killed, campaigns = np.random.default_rng(SEED), 0, 0
    while killed < CAMPAIGN:  # a campaign that gets through is followed by another one
        campaigns += 1
        folder = tmp_path / f"killed-{campaigns}"
        log.unlink(missing_ok=True)
        while True:
            process = run(config, folder)
            try:
                limit = random.uniform(0.2, 0.9) * whole if killed < CAMPAIGN else None
                _, err = process.communicate(timeout=limit)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed += 1
        assert process.returncode == 0, err
        assert labels_in(folder) == undisturbed
        assert Counter(log.read_text().split()) == dict.fromkeys(undisturbed, 1)
        assert [record.labels for record in read_campaign(folder).rounds] == rounds
        assert not list((folder / "labels" / "spool").iterdir())
    print(
        f"\nchaos, whole campaigns: {killed} SIGKILLs in {campaigns} campaigns of {len(undisturbed)} labels; "
        f"none lost, none computed twice; {time.monotonic() - begin:.0f} s"
    )
