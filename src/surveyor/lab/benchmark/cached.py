"""Work that several processes need, done by the first that asks."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable
from pathlib import Path


def cached(path: Path, work: Callable[[], object]) -> None:
    """Call `work`, which writes `path` as a whole, unless the file is there; others wait for it meanwhile.

    The system lets go of the lock when the process that holds it dies, and the next in line does the work.
    """
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as file:
        with contextlib.suppress(OSError):  # a file system without locks: at worst the work is done twice
            fcntl.flock(file, fcntl.LOCK_EX)
        if not path.is_file():
            work()
