"""A small process above a program: when one of them ends, so does everything that the program started.

    python -I -S keeper.py follow|stay PARENT PROGRAM [ARGUMENT...]

`follow`: it ends when its parent, the process PARENT, does (a program of a worker, a trainer). `stay`: it
does not (a worker, which finishes the job in hand). It ends as the program ended. SIGTERM ends all at once;
Ctrl-C is the parent's business.

On Linux it adopts what the program's children leave behind, even in sessions of their own; elsewhere only the
program's process group ends. It is a script of the standard library alone, since one runs for every program;
`end_descendants` is for workers, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

LINUX = sys.platform == "linux"
_PDEATHSIG, _SUBREAPER = 1, 36
PATIENCE = 5.0
"""Seconds in which killed processes must be gone; one that hangs in the kernel is left to it."""


def kept(command: Sequence[str], how: str = "follow") -> list[str]:
    """The command below a keeper; see the module."""
    return [sys.executable, "-I", "-S", __file__, how, str(os.getpid()), *command]


def end(keeper: subprocess.Popen[bytes] | subprocess.Popen[str]) -> int:
    """End a keeper and all that is below it; its exit code."""
    keeper.terminate()
    try:
        return keeper.wait(2 * PATIENCE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(keeper.pid, signal.SIGKILL)  # where it leads a group of its own
        keeper.kill()
        return keeper.wait()


def adopt_orphans() -> None:
    """What a descendant leaves behind becomes a child of this process."""
    if LINUX:
        _prctl(_SUBREAPER, 1)


def end_descendants() -> int:
    """Kill every process below this one, and wait until they are gone; how many there were."""
    killed: set[int] = set()
    end = time.monotonic() + PATIENCE
    while _reap() and (alive := _descendants(os.getpid())) and time.monotonic() < end:
        for process in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        killed |= alive
        time.sleep(0.002)
    return len(killed)


def _reap() -> bool:
    """Take leave of children that have ended; whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _descendants(ancestor: int) -> set[int]:
    """Processes below one, without those that have ended and only wait to be looked at."""
    above: dict[int, int] = {}
    ended = set()
    for folder in Path("/proc").iterdir() if LINUX else ():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            above[int(folder.name)] = int(parent)
            if state in "ZX":
                ended.add(int(folder.name))
    found: set[int] = set()
    new = {ancestor}
    while new := {process for process, parent in above.items() if parent in new} - found:
        found |= new
    return found - ended


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def main(how: str, parent: int, command: list[str]) -> int:
    """Run the command; its exit code, negative where a signal ended it."""
    program: subprocess.Popen[bytes] | None = None

    def end_all(*_: object) -> None:
        if program is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
        end_descendants()
        os._exit(128 + signal.SIGKILL)

    signal.signal(signal.SIGTERM, end_all)
    signal.signal(signal.SIGINT, lambda *_: None)
    adopt_orphans()
    if how == "follow" and LINUX:
        _prctl(_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            end_all()
    program = subprocess.Popen(command, close_fds=False, process_group=0)  # noqa: S603  (no shell)
    code = program.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGKILL)
    end_descendants()
    return code


if __name__ == "__main__":
    code = main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    if code < 0:
        with contextlib.suppress(OSError):  # nobody may change what SIGKILL does
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
