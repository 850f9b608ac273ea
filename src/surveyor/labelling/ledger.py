"""The journal of paid labels: append-only extended XYZ, one checksummed frame a label."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import time
from pathlib import Path
from typing import IO

from ase import Atoms
from ase.io import iread, write

from surveyor.errors import LabellingError
from surveyor.structures.identity import structure_id
from surveyor.structures.labels import labels_of, with_labels
from surveyor.structures.writing import write_error
from surveyor.types import Failure, Labels

_CHECKSUM = re.compile(r" surveyor_checksum=([0-9a-f]{16})$")
_SEALED_START = re.compile(rb"^[ \d]+\n[^\n]* surveyor_checksum=[0-9a-f]{16}\n", re.MULTILINE)


class Ledger:
    """Labels of one method, on disk the moment they arrive; never rewritten.

    Opening cuts a torn last frame (a crash while it was written). A frame that is damaged further up is an
    error: something other than Surveyor changed the file.

    Args:
        folder: holds `<method>.extxyz` and `<method>.failures.jsonl`.
        method: name of code and settings.
        read_only: open without cutting a torn frame, and refuse to append.

    Raises:
        LabellingError: a damaged frame.
    """

    def __init__(self, folder: Path, method: str, *, read_only: bool = False) -> None:
        self.path = folder / f"{method}.extxyz"
        self.failures_path = folder / f"{method}.failures.jsonl"
        self.read_only = read_only
        self._structures: dict[str, Atoms] = {}
        self._failures: dict[str, list[str]] = {}
        if not read_only:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(folder, error) from error
        self._end = self._load()
        self._load_failures()

    def __len__(self) -> int:
        return len(self._structures)

    def __contains__(self, name: str) -> bool:
        return name in self._structures

    @property
    def structures(self) -> dict[str, Atoms]:
        """id → labelled structure, in the order of arrival."""
        return dict(self._structures)

    @property
    def failures(self) -> dict[str, list[str]]:
        """id → reasons of its failed attempts."""
        return {name: list(reasons) for name, reasons in self._failures.items()}

    def append(self, name: str, atoms: Atoms, labels: Labels) -> None:
        """Write a label and wait until the disk has it; an id that is there already is left alone.

        Raises:
            LabellingError: the id does not belong to the structure, or the ledger is read-only.
            SurveyorError: the disk is full; the journal stays whole.
        """
        if self.read_only:
            raise LabellingError(f"{self.path} was opened read-only", expected="the owner of the campaign")
        if structure_id(atoms) != name:
            raise LabellingError(f"label {name} is not of this structure", expected=structure_id(atoms))
        if name in self._structures:
            return
        labelled = with_labels(atoms, labels)
        labelled.info["surveyor_id"] = name
        text = _seal(labelled)
        self._append(self.path, text.encode(), self._end)
        self._end += len(text.encode())
        self._structures[name] = labelled

    def append_failure(self, name: str, failure: Failure) -> None:
        """Record a failed attempt."""
        if self.read_only:
            raise LabellingError(f"{self.path} was opened read-only", expected="the owner of the campaign")
        line = json.dumps({"id": name, "reason": failure.reason, "time": round(time.time(), 3)}) + "\n"
        size = self.failures_path.stat().st_size if self.failures_path.exists() else 0
        self._append(self.failures_path, line.encode(), size)
        self._failures.setdefault(name, []).append(failure.reason)

    def _append(self, path: Path, content: bytes, end: int) -> None:
        try:
            # Unbuffered: what a failed write leaves in a buffer would be written after the cut.
            with path.open("ab", buffering=0) as file:
                try:
                    rest = memoryview(content)
                    while rest:
                        rest = rest[file.write(rest) :]
                    os.fsync(file.fileno())
                except OSError:
                    _cut(file, end)
                    raise
        except OSError as error:
            raise write_error(path, error) from error

    def _load(self) -> int:
        """Read all whole frames; return the length of the file that they take."""
        if not self.path.exists():
            return 0
        end = 0
        with self.path.open("rb") as file:
            while frame := _next_frame(file):
                atoms = _unseal(frame)
                if atoms is None:
                    break
                self._structures[str(atoms.info["surveyor_id"])] = atoms
                end += len(frame)
            file.seek(end)
            rest = file.read()
        if _holds_whole_frame(rest):
            raise LabellingError(
                f"{self.path}: frame {len(self._structures)} is damaged, and whole frames follow it",
                expected="a journal that only Surveyor writes to",
                todo="restore the file from a copy, or move the damaged frame out by hand",
            )
        if rest and not self.read_only:
            with self.path.open("r+b") as file:
                _cut(file, end)
        return end

    def _load_failures(self) -> None:
        if not self.failures_path.exists():
            return
        content = self.failures_path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content) and not self.read_only:
            with self.failures_path.open("r+b") as file:
                _cut(file, len(whole))
        for line in whole.splitlines():
            entry = json.loads(line)
            self._failures.setdefault(entry["id"], []).append(entry["reason"])


def _cut(file: IO[bytes], end: int) -> None:
    try:
        file.truncate(end)
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def _seal(atoms: Atoms) -> str:
    """The frame as extended XYZ with its checksum at the end of the comment line."""
    buffer = io.StringIO()
    write(buffer, atoms, format="extxyz")
    count, comment, rest = buffer.getvalue().split("\n", 2)
    return f"{count}\n{comment} surveyor_checksum={_checksum(count, comment, rest)}\n{rest}"


def _checksum(count: str, comment: str, rest: str) -> str:
    return hashlib.sha256("\n".join((count, comment, rest)).encode()).hexdigest()[:16]


def _unseal(frame: bytes) -> Atoms | None:
    """The structure, or None where the frame is not whole."""
    try:
        count, sealed, rest = frame.decode().split("\n", 2)
    except (UnicodeDecodeError, ValueError):
        return None
    match = _CHECKSUM.search(sealed)
    if match is None or _checksum(count, sealed[: match.start()], rest) != match.group(1):
        return None
    atoms = next(iter(iread(io.StringIO(f"{count}\n{sealed[: match.start()]}\n{rest}"), format="extxyz")))
    labels_of(atoms)
    assert isinstance(atoms, Atoms)  # noqa: S101
    return atoms


def _next_frame(file: IO[bytes]) -> bytes:
    """The bytes of the next frame as far as they are there; empty where no frame starts."""
    first = file.readline()
    try:
        n_atoms = int(first)
    except ValueError:
        return b""
    return first + b"".join(file.readline() for _ in range(n_atoms + 1))


def _holds_whole_frame(rest: bytes) -> bool:
    """Whether a whole frame begins anywhere behind the first byte."""
    stream = io.BytesIO(rest)
    for match in _SEALED_START.finditer(rest, 1):
        stream.seek(match.start())
        if _unseal(_next_frame(stream)) is not None:
            return True
    return False
