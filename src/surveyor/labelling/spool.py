"""The hand-over between a worker and the campaign: a finished calculation survives both.

A worker holds an advisory lock on `<id>.lock` while it computes and writes `<id>.json` before it returns. If
the campaign is killed, its workers finish the job in hand; the campaign that comes back asks a new worker for
the same id, which waits for the lock, finds the result, and does not compute it a second time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from surveyor.structures.writing import atomic_write
from surveyor.types import Failure, Labels


def compute_once(folder: Path, name: str, work: Callable[[], Labels | Failure]) -> Labels | Failure:
    """The result for `name`: the one in the folder, or `work()` written there."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f"{name}.lock"):
        found = read_result(folder, name)
        if found is not None:
            return found
        result = work()
        write_result(folder, name, result)
        return result


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        # A file system without locks: go on, at worst the job in hand is computed twice.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_result(folder: Path, name: str, result: Labels | Failure) -> None:
    """Write a result as a whole or not at all."""
    if isinstance(result, Failure):
        content: dict[str, object] = {"failure": result.reason}
    else:
        content = {
            "energy": result.energy,
            "forces": result.forces.tolist(),
            "stress": None if result.stress is None else result.stress.tolist(),
        }
    atomic_write(folder / f"{name}.json", lambda file: json.dump(content, file))


def read_result(folder: Path, name: str) -> Labels | Failure | None:
    """The result of a finished job, or None."""
    try:
        content = json.loads((folder / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    if "failure" in content:
        return Failure(content["failure"])
    stress = content["stress"]
    return Labels(
        energy=content["energy"],
        forces=np.array(content["forces"], dtype=np.float64).reshape(-1, 3),
        stress=None if stress is None else np.array(stress, dtype=np.float64),
    )


def finished(folder: Path) -> list[str]:
    """Names of the results that wait to be collected."""
    return sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []


def forget(folder: Path, name: str) -> None:
    """Remove a collected result; its lock file goes too unless a worker holds it."""
    (folder / f"{name}.json").unlink(missing_ok=True)
    lock = folder / f"{name}.lock"
    with contextlib.suppress(OSError), lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.unlink()
