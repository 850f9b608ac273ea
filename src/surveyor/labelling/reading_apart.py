"""Results of others, read in a process of its own, so that no file can stop or harm the one that asks."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from ase import Atoms

from surveyor.labelling.frames import Frame
from surveyor.labelling.names import shown

SECONDS = 20.0
"""A reader that gives no frame for so long is stopped; files of more than 10 MB get a second per MB …"""
MOST_SECONDS = 600.0
"""… but never more than this."""
MEMORY = 4 * 2**30
"""Bytes of address space for the reader."""
HOLE = 64 * 2**20
"""Bytes; a larger file that takes less than a hundredth of its size on the disk is empty."""
FRAMES = 1_000_000
"""Frames of one file that are looked at."""


@dataclass(frozen=True)
class Fault:
    """A result that is not taken, or a file that is passed over: where it stands, and why."""

    where: str
    reason: str


class ApartReader:
    """Reads files one after the other in a child process, which is started anew when a file ends it.

    Args:
        seconds: without a frame, after which the child is ended.
        memory: address space of the child, bytes.
    """

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._seconds = seconds
        self._memory = memory
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ApartReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def read(self, path: Path) -> Iterator[Frame | Fault]:
        """Frames and faults of a file, in its order."""
        where = shown(path)
        if reason := unreadable(path):
            yield Fault(where, reason)
            return
        seconds = self._limit(path)
        child = self._ask({"path": str(path.absolute()), "seconds": seconds})
        assert child.stdout is not None  # noqa: S101
        for number, line in enumerate(child.stdout):
            message = json.loads(line)
            if message.get("done"):
                return
            if number >= FRAMES:
                yield Fault(where, f"more than {FRAMES} frames")
                break
            place = f"{where}, frame {message['frame']}" if "frame" in message else where
            if "fault" in message:
                reason = shown(" ".join(str(message["fault"]).split()))
                yield Fault(place, reason.removeprefix(f"{shown(path.name)}: "))
            else:
                yield _frame(place, message)
        else:
            yield Fault(where, self._death(seconds))
        self._end()

    def _limit(self, path: Path) -> float:
        """Seconds for a file, by what it takes on the disk: holes in a file are no reason to wait."""
        occupied = path.stat().st_blocks * 512
        return max(self._seconds, min(MOST_SECONDS, self._seconds * (occupied / 1e6) / SECONDS))

    def _ask(self, request: dict[str, Any]) -> subprocess.Popen[bytes]:
        """A child that has got the request."""
        if self._child is None:
            self._child = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "surveyor.labelling.reader", str(self._memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            assert self._child.stdout is not None  # noqa: S101
            if not self._child.stdout.readline():
                assert self._child.stderr is not None  # noqa: S101
                said = self._child.stderr.read().decode("utf-8", "replace").strip().splitlines()
                self._end()
                raise RuntimeError(f"the process that reads results does not start: {said[-1:]}")
        assert self._child.stdin is not None  # noqa: S101
        self._child.stdin.write((json.dumps(request) + "\n").encode("ascii"))
        self._child.stdin.flush()
        return self._child

    def _death(self, seconds: float) -> str:
        """Why the child ended over a file."""
        assert self._child is not None  # noqa: S101
        code = self._child.wait()
        if code == -signal.SIGALRM:
            return f"its reader gave nothing for {seconds:g} s"
        return f"its reader ended with {signal.Signals(-code).name if code < 0 else f'code {code}'}"

    def _end(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()
        self._child = None


def unreadable(path: Path) -> str:
    """Why a file is not even opened, or empty: pipes and devices may never end."""
    try:
        found = path.stat()
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISREG(found.st_mode):
        return "no regular file"
    if found.st_size > HOLE and found.st_blocks * 512 < found.st_size / 100:
        return f"a hole of {found.st_size / 1e9:.3g} GB"
    return "" if os.access(path, os.R_OK) else "no permission to read it"


def _frame(where: str, message: dict[str, Any]) -> Frame:
    atoms = Atoms(
        np.array(message["numbers"], dtype=np.intp),
        np.array(message["positions"], dtype=np.float64).reshape(-1, 3),
        cell=message["cell"],
        pbc=message["pbc"],
        info=message["info"],
    )
    for key, values in message["arrays"].items():
        array = np.asarray(values)
        if len(array.shape) and len(array) == len(atoms):
            atoms.arrays[key] = array
    return Frame(where, atoms, message["results"], message.get("format", ""), message.get("unconverged", ""))


def files_of(results: Sequence[Path]) -> Iterator[tuple[Path, bool, str]]:
    """Every file, whether it was found in a folder, and why it cannot be one, or empty; in a fixed order.

    Links to folders are not followed, so that no tree is endless.
    """
    for top in results:
        if not top.is_dir():
            yield top, False, ""
            continue
        faults: list[OSError] = []
        for folder, folders, files in os.walk(top, onerror=faults.append, followlinks=False):
            folders.sort(key=os.fsencode)
            for name in folders:
                if Path(folder, name).is_symlink():
                    yield Path(folder, name), True, "a link to a folder: name the folder itself"
            for name in sorted(files, key=os.fsencode):
                yield Path(folder, name), True, ""
        for fault in faults:
            yield Path(str(fault.filename)), True, fault.strerror or str(fault)
