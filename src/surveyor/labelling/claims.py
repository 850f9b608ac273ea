"""Who computes a label: a small file with host and process, alive as long as its time moves."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from surveyor.labelling.results import Order, clear
from surveyor.labelling.shared_files import SMALL, create, file_of, modified, read_regular
from surveyor.structures.writing import write_error

BEAT = 10.0
"""Seconds between two heartbeats of a claim."""

STALE = 12 * BEAT
"""A claim whose last heartbeat is older than this is taken for dead (a process of this machine: at once)."""


def claim(folder: Path, placed: Order) -> bool:
    """Make the claim, unless a living one is there.

    Two processes that find the same dead claim at the same moment could both take it over; that needs two
    jobs for one structure on two machines, and costs one label computed twice.
    """
    path = file_of(folder, placed.id, "claim")
    content = {"host": socket.gethostname(), "pid": os.getpid(), "id": placed.id, "method": placed.method}
    try:
        if not _alive(path):
            clear(path)
        create(path, json.dumps(content).encode())
    except FileExistsError:
        return False
    except OSError as error:
        raise write_error(path, error) from error
    return True


@contextlib.contextmanager
def heartbeat(path: Path) -> Iterator[None]:
    """Keep a claim alive, from a thread, and take it away at the end."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            touch(path)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        path.unlink(missing_ok=True)


def touch(path: Path) -> None:
    """A sign of life."""
    with contextlib.suppress(OSError):
        os.utime(path, follow_symlinks=False)


def in_flight(folder: Path, name: str) -> bool:
    """Whether a process that is alive computes this label."""
    return _alive(file_of(folder, name, "claim"))


def drop_claim(folder: Path, name: str) -> None:
    """Remove a claim that is dead, so that nobody else has to find that out."""
    with contextlib.suppress(OSError):
        file_of(folder, name, "claim").unlink()


def _alive(path: Path) -> bool:
    try:
        beat = modified(path)
        content = read_regular(path, SMALL)
        age = _file_system_time(path.parent) - beat
    except OSError:
        return False
    if age > STALE or (age < -BEAT and not _just_seen(path, beat)):
        return False
    try:
        owner: Any = json.loads(content)
        on_this_machine, pid = owner["host"] == socket.gethostname(), int(owner["pid"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return True  # just being written
    return not on_this_machine or is_running(pid)


_ahead: dict[Path, tuple[float, float]] = {}
"""Claims dated in the future: the time that they bear, and when this process first saw it."""


def _just_seen(path: Path, beat: float) -> bool:
    """A clock that was set back makes a claim of the future; one that is alive soon bears another time."""
    if _ahead.get(path, (None,))[0] != beat:
        _ahead[path] = (beat, time.monotonic())
    return time.monotonic() - _ahead[path][1] < 1.5 * BEAT


def is_running(pid: int) -> bool:
    """Whether a process of this machine is alive."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
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
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(clock, flags, 0o600)
        try:
            os.utime(descriptor)
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
    except OSError:
        return time.time()
