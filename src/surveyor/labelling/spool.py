"""The hand-over between a worker and the campaign: a finished calculation survives both.

Three small files a structure, all of them gone once the label is in the journal:

    <id>.order   somebody waits for this label; a job that finds none has nothing to do
    <id>.claim   somebody computes it: host, process, and a heartbeat (the file's time)
    <id>.json    the result

On one machine an advisory lock on the order decides who computes: it cannot go stale. Locks do not reach
across machines on every file system, so there the claim decides: it is made atomically, and it counts for as
long as its heart beats. A campaign that was killed and comes back sees three things: results to collect,
claims of jobs that still run (it waits for these), and orders that nobody works on (it submits these again).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from surveyor.errors import SurveyorError
from surveyor.structures.writing import atomic_write, write_error
from surveyor.types import Failure, Labels

Result = Labels | Failure

BEAT = 10.0
"""Seconds between two heartbeats of a claim."""

STALE = 12 * BEAT
"""A claim whose last heartbeat is older than this is taken for dead (a process of this machine: at once)."""

RETRY_WRITE = 2.0
"""Seconds between two attempts to write a result to a full disk."""


def order(folder: Path, name: str) -> None:
    """Say that somebody waits for this label."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.order").touch()
    except OSError as error:
        raise write_error(folder / f"{name}.order", error) from error


def compute_once(
    folder: Path, name: str, work: Callable[[], Result], *, deliver: Callable[[Result | None], None]
) -> None:
    """Deliver the result for `name`: the one in the folder, or `work()` written there.

    None is delivered where nobody waits for the label any more. A result that cannot be written (a full disk)
    is delivered all the same, and then kept until it can be, or until somebody has collected it.
    """
    try:
        with (folder / f"{name}.order").open("r") as lock:
            # A file system without locks: go on, the claim decides.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            _compute_claimed(folder, name, work, deliver)
    except FileNotFoundError:
        deliver(None)


def _compute_claimed(
    folder: Path, name: str, work: Callable[[], Result], deliver: Callable[[Result | None], None]
) -> None:
    while not (found := read_result(folder, name)) and _ordered(folder, name):
        if _claim(folder, name):
            break
        time.sleep(0.2)
    if found or not _ordered(folder, name):
        deliver(found)
        return
    with _heartbeat(folder / f"{name}.claim"):
        result = work()
        try:
            write_result(folder, name, result)
        except SurveyorError:
            deliver(result)
            _write_when_possible(folder, name, result)
        else:
            deliver(result)


def _write_when_possible(folder: Path, name: str, result: Result) -> None:
    """The label is paid for: hold it until the disk takes it, or the journal has it."""
    while _ordered(folder, name):
        time.sleep(RETRY_WRITE)
        with contextlib.suppress(SurveyorError):
            write_result(folder, name, result)
            return


def _ordered(folder: Path, name: str) -> bool:
    return (folder / f"{name}.order").exists()


# ---- claims -----------------------------------------------------------------------------------------


def _claim(folder: Path, name: str) -> bool:
    """Make the claim, unless a living one is there.

    Two processes that find the same dead claim at the same moment could both take it over; that needs two
    jobs for one structure on two machines, and costs one label computed twice.
    """
    path = folder / f"{name}.claim"
    if path.exists() and not _alive(path):
        path.unlink(missing_ok=True)
    try:
        with path.open("x") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
    except FileExistsError:
        return False
    except OSError as error:
        path.unlink(missing_ok=True)
        raise write_error(path, error) from error
    return True


@contextlib.contextmanager
def _heartbeat(claim: Path) -> Iterator[None]:
    """Keep a claim alive, from a thread, and take it away at the end."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            touch(claim)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        claim.unlink(missing_ok=True)


def touch(claim: Path) -> None:
    """A sign of life."""
    with contextlib.suppress(OSError):
        os.utime(claim)


def in_flight(folder: Path, name: str) -> bool:
    """Whether a process that is alive computes this label."""
    return _alive(folder / f"{name}.claim")


def _alive(claim: Path) -> bool:
    try:
        age = _file_system_time(claim.parent) - claim.stat().st_mtime
        content = claim.read_text()
    except OSError:
        return False
    if age > STALE:
        return False
    try:
        owner: Any = json.loads(content)
        on_this_machine, pid = owner["host"] == socket.gethostname(), int(owner["pid"])
    except (ValueError, KeyError, TypeError):
        return True  # just being written
    return not on_this_machine or is_running(pid)


def is_running(pid: int) -> bool:
    """Whether a process of this machine is alive."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A process that was killed and not waited for yet is dead.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return True


def _file_system_time(folder: Path) -> float:
    """Now, by the clock that the file times of this folder come from."""
    clock = folder / ".clock"
    try:
        clock.touch()
        return clock.stat().st_mtime
    except OSError:
        return time.time()


# ---- results ----------------------------------------------------------------------------------------


def write_result(folder: Path, name: str, result: Result) -> None:
    """Write a result as a whole or not at all."""
    if isinstance(result, Failure):
        content: dict[str, object] = {"failure": result.reason, "final": result.final}
    else:
        content = {
            "energy": result.energy,
            "forces": result.forces.tolist(),
            "stress": None if result.stress is None else result.stress.tolist(),
            "doubt": result.doubt,
        }
    content["core_seconds"] = result.core_seconds
    atomic_write(folder / f"{name}.json", lambda file: json.dump(content, file))


def read_result(folder: Path, name: str) -> Result | None:
    """The result of a finished job, or None."""
    try:
        content = json.loads((folder / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    cost = content.get("core_seconds", 0.0)
    if "failure" in content:
        return Failure(content["failure"], content.get("final", False), cost)
    stress = content["stress"]
    return Labels(
        energy=content["energy"],
        forces=np.array(content["forces"], dtype=np.float64).reshape(-1, 3),
        stress=None if stress is None else np.array(stress, dtype=np.float64),
        core_seconds=cost,
        doubt=content.get("doubt"),
    )


def finished(folder: Path) -> list[str]:
    """Names of the results that wait to be collected."""
    return sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []


def forget(folder: Path, name: str) -> None:
    """Remove what belongs to a collected label.

    The order goes first: a second job for the same structure that starts only now finds none, and ends.
    """
    for suffix in ("order", "json"):
        (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    if not in_flight(folder, name):
        (folder / f"{name}.claim").unlink(missing_ok=True)


def sweep(folder: Path, wanted: Iterable[str]) -> None:
    """Remove what nobody waits for, and nobody works on, any more."""
    keep = set(wanted)
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.suffix in (".order", ".claim", ".json") and path.stem not in keep:
            forget(folder, path.stem)
        elif path.suffix == ".tmp" or path.name == ".clock":
            # Written by a process that died in the middle; a living one has renamed it long before.
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE or path.name == ".clock":
                    path.unlink()
