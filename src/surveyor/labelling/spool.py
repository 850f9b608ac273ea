"""The hand-over between a worker and the campaign: a finished calculation survives both.

Three small files per structure, in a folder of the method, all of them gone once the label is in the journal:

    <id>.order   somebody waits for this label: method and a token; a job that finds none has nothing to do
    <id>.claim   somebody computes it: host, process, and a heartbeat (the file's time)
    <id>.json    the result, which repeats the order; one that answers no order of ours is set aside

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
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from surveyor.errors import LabellingError, SurveyorError
from surveyor.labelling import results
from surveyor.labelling.claims import STALE, claim, heartbeat, in_flight
from surveyor.labelling.names import is_structure_id
from surveyor.labelling.results import Order, Result, clear, set_aside
from surveyor.labelling.shared_files import SMALL, create, file_of, open_regular, read_regular
from surveyor.structures.writing import write_error

RETRY_WRITE = 2.0
"""Seconds between two attempts to write a result to a full disk."""


def spool_of(root: Path, method: str) -> Path:
    """The folder of one method, made where there is none.

    Raises:
        SurveyorError: it cannot be written, or is a link.
    """
    folder = root / method
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    if folder.is_symlink():
        raise LabellingError(
            f"{folder} is a link", expected="a folder that Surveyor made", todo="delete the link"
        )
    return folder


def _is_of_label(path: Path) -> bool:
    return is_structure_id(path.stem) and path.suffix in (".order", ".claim", ".json")


def set_old_aside(root: Path) -> None:
    """Results of the layout before this one, without a method: nobody can say which method they are of.

    Raises:
        SurveyorError: they cannot be moved or deleted.
    """
    for path in root.iterdir() if root.is_dir() else ():
        if not _is_of_label(path):
            continue
        if path.suffix == ".json":
            set_aside(path, "a result that does not say by which method it is")
            continue
        try:
            clear(path)
        except OSError as error:
            raise write_error(path, error) from error


# ---- orders -----------------------------------------------------------------------------------------


def order(folder: Path, name: str, method: str) -> Order:
    """Say that somebody waits for this label; an order of an earlier run of ours stays."""
    path = file_of(folder, name, "order")
    if (found := our_order(folder, name, method)) is not None:
        return found
    made = Order(name, method, secrets.token_hex(16))
    try:
        clear(path)
        create(path, json.dumps(made.content()).encode())
    except OSError as error:
        raise write_error(path, error) from error
    return made


def our_order(folder: Path, name: str, method: str) -> Order | None:
    """The order that an earlier run of this user left, if it is of this method."""
    try:
        mine = file_of(folder, name, "order").lstat().st_uid == os.geteuid()
    except OSError:
        return None
    return order_at(folder, name, method) if mine else None


def order_at(folder: Path, name: str, method: str) -> Order | None:
    """The order that stands for a label of this method, for those who answer it."""
    try:
        content: Any = json.loads(read_regular(file_of(folder, name, "order"), SMALL))
        found = Order(**content)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    fits = (found.id, found.method) == (name, method) and isinstance(found.token, str) and found.token
    return found if fits else None


def compute_once(
    folder: Path,
    name: str,
    method: str,
    n_atoms: int,
    work: Callable[[], Result],
    *,
    deliver: Callable[[Result | None], None],
) -> None:
    """Deliver the result for `name`: the one in the folder, or `work()` written there.

    None is delivered where nobody waits for the label any more. A result that cannot be written (a full disk)
    is delivered all the same, and then kept until it can be, or until somebody has collected it.
    """
    try:
        descriptor = open_regular(file_of(folder, name, "order"))
    except OSError:
        deliver(None)
        return
    with os.fdopen(descriptor) as lock:
        # A file system without locks: go on, the claim decides.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        placed = order_at(folder, name, method)
        if placed is None:
            deliver(None)
        else:
            _compute_claimed(folder, placed, n_atoms, work, deliver)


def _compute_claimed(
    folder: Path,
    placed: Order,
    n_atoms: int,
    work: Callable[[], Result],
    deliver: Callable[[Result | None], None],
) -> None:
    while not (found := read_result(folder, placed, n_atoms)) and _stands(folder, placed):
        if claim(folder, placed):
            break
        time.sleep(0.2)
    if found or not _stands(folder, placed):
        deliver(found)
        return
    with heartbeat(file_of(folder, placed.id, "claim")):
        result = work()
        try:
            write_result(folder, placed, result)
        except SurveyorError:
            deliver(result)
            _write_when_possible(folder, placed, result)
        else:
            deliver(result)


def _write_when_possible(folder: Path, placed: Order, result: Result) -> None:
    """The label is paid for: hold it until the disk takes it, or the journal has it."""
    while _stands(folder, placed):
        time.sleep(RETRY_WRITE)
        with contextlib.suppress(SurveyorError):
            write_result(folder, placed, result)
            return


def _stands(folder: Path, placed: Order) -> bool:
    """Whether somebody still waits for the answer to this order."""
    return order_at(folder, placed.id, placed.method) == placed


# ---- results ----------------------------------------------------------------------------------------


def write_result(folder: Path, placed: Order, result: Result) -> None:
    """Answer an order."""
    results.write_result(file_of(folder, placed.id, "json"), result, placed)


def read_result(folder: Path, placed: Order, n_atoms: int) -> Result | None:
    """The answer to an order, or None; anything else in its place is set aside."""
    path = file_of(folder, placed.id, "json")
    try:
        return results.read_result(path, n_atoms, placed)
    except FileNotFoundError:
        return None
    except ValueError as error:
        set_aside(path, str(error))
        return None


def finished(folder: Path) -> list[str]:
    """Names of the results that wait to be collected."""
    return sorted(path.stem for path in folder.glob("*.json") if is_structure_id(path.stem))


def forget(folder: Path, name: str) -> None:
    """Remove what belongs to a collected label.

    The order goes first: a second job for the same structure that starts only now finds none, and ends.
    """
    suffixes = ("order", "json") if in_flight(folder, name) else ("order", "json", "claim")
    for suffix in suffixes:
        with contextlib.suppress(OSError):  # what is no file, or another's, is in nobody's way
            file_of(folder, name, suffix).unlink()


def sweep(folder: Path, wanted: Iterable[str]) -> None:
    """Remove what nobody waits for, and nobody works on, any more."""
    keep = set(wanted)
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if _is_of_label(path) and path.stem not in keep:
            forget(folder, path.stem)
        elif path.suffix == ".tmp" or path.name == ".clock":
            # Written by a process that died in the middle; a living one has renamed it long before.
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > STALE or path.name == ".clock":
                    path.unlink()
