"""Results of finished calculations as files, and what is done with those that are damaged or not ours."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from surveyor.errors import LabellingError, notice
from surveyor.labelling.shared_files import read_regular
from surveyor.structures.real import NotRealError, real, real_labels
from surveyor.structures.writing import atomic_write
from surveyor.types import Failure, Labels

Result = Labels | Failure

ASIDE = "set-aside"
"""Folder of results that were not taken."""

MOST_ASIDE = 20
"""Files that stay there."""

REASON = 2000
"""Characters of a reason, at most."""


@dataclass(frozen=True)
class Order:
    """What one result answers: a structure, the method, and this order, not an earlier one of the same.

    The token is random; only owner and workers see it.
    """

    id: str
    method: str
    token: str

    def content(self) -> dict[str, Any]:
        """As it stands in files."""
        return asdict(self)


def write_result(path: Path, result: Result, order: Order | None = None) -> None:
    """Write a result as a whole or not at all.

    Raises:
        SurveyorError: the disk is full, or the folder is not writable.
    """
    content: dict[str, object] = {} if order is None else order.content()
    if isinstance(result, Failure):
        content |= {"failure": result.reason, "final": result.final}
    else:
        content |= {
            "energy": result.energy,
            "forces": result.forces.tolist(),
            "stress": None if result.stress is None else result.stress.tolist(),
            "doubt": result.doubt,
            "free_energy": result.free_energy,
        }
    content["core_seconds"] = result.core_seconds
    atomic_write(path, lambda file: json.dump(content, file))


def read_result(path: Path, n_atoms: int, order: Order | None = None) -> Result:
    """A result.

    Args:
        n_atoms: of the structure.
        order: what it must answer; None: anything.

    Raises:
        FileNotFoundError: there is none.
        ValueError: damaged, of another shape, or not the answer to this order; why.
    """
    try:
        text = read_regular(path, 1_000_000 + 200 * n_atoms)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.EIO, errno.ESTALE):  # a network file system that stutters
            raise FileNotFoundError(path) from error
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is empty" if not text.strip() else "it is damaged: no JSON") from None
    if not isinstance(content, dict):
        raise ValueError("it is damaged: no result")
    if order is not None and {key: content.get(key) for key in order.content()} != order.content():
        raise ValueError("it answers no order of this run")
    return _result(content, n_atoms)


def _result(content: dict[str, Any], n_atoms: int) -> Result:
    """Raises ValueError where a key is missing or holds something else."""
    cost = float(real(content.get("core_seconds", 0.0), (), "its cost"))
    if "failure" in content:
        if not isinstance(content["failure"], str):
            raise ValueError("it is damaged: a failure without a reason")
        return Failure(content["failure"][:REASON], content.get("final") is True, cost)
    doubt = content.get("doubt")
    if not (doubt is None or isinstance(doubt, str)):
        raise NotRealError("its doubt is no text")
    labels = real_labels(content.get("energy"), content.get("forces"), content.get("stress"), n_atoms)
    return replace(labels, core_seconds=cost, doubt=doubt, free_energy=content.get("free_energy") is True)


def set_aside(path: Path, why: str) -> None:
    """Move a result that is not taken out of the way, and say so.

    Raises:
        LabellingError: it cannot be moved; the same command would end at it again and again.
    """
    folder = path.parent / ASIDE
    try:
        folder.mkdir(exist_ok=True)
        old = sorted(folder.iterdir(), key=lambda other: other.lstat().st_mtime)
        for other in old[: max(0, len(old) - MOST_ASIDE + 1)]:
            shutil.rmtree(other) if other.is_dir() and not other.is_symlink() else other.unlink()
        target = folder / f"{path.name}.{os.urandom(4).hex()}"
        path.rename(target)
    except FileNotFoundError:  # somebody else was quicker
        return
    except OSError as error:
        raise LabellingError(
            f"the result {path} is not taken ({why}) and cannot be moved: {error.strerror}",
            expected="a result that answers an order of this run",
            todo="delete it and run the same command again",
        ) from error
    with contextlib.suppress(OSError):
        os.utime(target, follow_symlinks=False)
    notice(f"{path}: {why}; moved to {folder.name}, the label is computed again")


def clear(path: Path) -> None:
    """Nothing of this name any more: a file or a link is deleted, a folder, which is not ours, set aside.

    Raises:
        OSError: it cannot be deleted.
        LabellingError: the folder cannot be moved.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if not path.is_dir():
            raise
        set_aside(path, "a folder where a file of Surveyor belongs")
