"""The journal of paid labels: append-only extended XYZ, one checksummed frame a label."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ase import Atoms
from ase.io import iread, write

from surveyor.errors import LabellingError
from surveyor.labelling.journal import Journal, append_durably, cut
from surveyor.labelling.screening import DOUBT
from surveyor.structures.identity import structure_id
from surveyor.structures.labels import labels_of, with_labels
from surveyor.structures.writing import write_error
from surveyor.types import Failure, Labels

_CHECKSUM = re.compile(r" surveyor_checksum=([0-9a-f]{16})$")
COST = "surveyor_core_seconds"
"""The key under which a label carries what it cost."""

ENERGY_IS = "surveyor_energy"
"""The key under which a label says that its energy is a free energy."""

_SEALED_START = re.compile(rb"^[ \d]+\n[^\n]* surveyor_checksum=[0-9a-f]{16}\n", re.MULTILINE)


class Ledger:
    """Labels of one method, on disk the moment they arrive; never rewritten.

    Opening cuts a torn last frame (a crash while it was written). A frame that is damaged further up is an
    error: something other than Surveyor changed the file.

    A label in quarantine stays in the journal, for it was paid for; a second journal names it and the reason,
    until a person releases it.

    Args:
        folder: holds `<method>.extxyz`, `<method>.failures.jsonl` and `<method>.quarantine.jsonl`.
        method: name of code and settings.
        read_only: open without cutting a torn frame, and refuse to append.

    Raises:
        LabellingError: a damaged frame.
    """

    def __init__(self, folder: Path, method: str, *, read_only: bool = False) -> None:
        self.path = folder / f"{method}.extxyz"
        self.read_only = read_only
        self._structures: dict[str, Atoms] = {}
        if not read_only:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(folder, error) from error
        self._end = self._load()
        self._failures = Journal(folder / f"{method}.failures.jsonl", read_only=read_only)
        self._quarantine = Journal(folder / f"{method}.quarantine.jsonl", read_only=read_only)

    def __len__(self) -> int:
        return len(self._structures)

    def __contains__(self, name: str) -> bool:
        return name in self._structures

    @property
    def structures(self) -> dict[str, Atoms]:
        """id → labelled structure, in the order of arrival; those in quarantine included."""
        return dict(self._structures)

    @property
    def trusted(self) -> dict[str, Atoms]:
        """id → labelled structure, without those in quarantine."""
        return {name: atoms for name, atoms in self._structures.items() if name not in self._quarantine}

    @property
    def quarantined(self) -> dict[str, str]:
        """id → why its label is in quarantine."""
        return reasons_of(self._quarantine)

    @property
    def failures(self) -> dict[str, list[str]]:
        """id → reasons of its failed attempts, where no label came in the end."""
        return {
            name: [str(entry["reason"]) for entry in self._failures.entries(name)]
            for name in self._failures.names
            if name not in self._structures
        }

    def attempts(self, name: str) -> list[dict[str, Any]]:
        """The failed attempts at a label, oldest first: reason, time, final, core_seconds."""
        return self._failures.entries(name)

    def cost(self, name: str) -> float:
        """Core seconds that this structure has cost so far, failed attempts included."""
        failed = sum(float(entry.get("core_seconds", 0.0)) for entry in self._failures.entries(name))
        label = self._structures.get(name)
        return failed + (float(label.info.get(COST, 0.0)) if label is not None else 0.0)

    def prove(self, structures: Mapping[str, Atoms]) -> None:
        """Check that labels of these structures would survive the journal."""

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
        if labels.core_seconds:
            labelled.info[COST] = round(labels.core_seconds, 3)
        if labels.doubt:
            labelled.info[DOUBT] = labels.doubt
        if labels.free_energy:
            labelled.info[ENERGY_IS] = "free energy"
        content = _seal(labelled).encode()
        append_durably(self.path, content, self._end)
        self._end += len(content)
        self._structures[name] = labelled

    def append_failure(self, name: str, failure: Failure) -> None:
        """Record a failed attempt."""
        self._failures.append(
            name, reason=failure.reason, final=failure.final, core_seconds=round(failure.core_seconds, 3)
        )

    def quarantine(self, name: str, reason: str) -> None:
        """Hold a label back from training.

        Raises:
            LabellingError: there is no such label, or the ledger is read-only.
        """
        if name not in self._structures:
            raise LabellingError(f"there is no label {name}", expected="the id of a label in the journal")
        self._quarantine.append(name, reason=reason)

    def released(self, name: str) -> bool:
        """Whether a person has released this label; screening then has nothing more to say about it."""
        return name in self._quarantine.released

    def release(self, name: str) -> str:
        """Trust a label in quarantine from now on, or let a failed structure be tried again.

        Returns:
            What was released: "label" or "failure".

        Raises:
            LabellingError: the structure is neither in quarantine nor failed.
        """
        if name in self._quarantine:
            self._quarantine.release(name)
            return "label"
        if name in self._failures and name not in self._structures:
            self._failures.release(name)
            return "failure"
        raise LabellingError(
            f"{name} is neither in quarantine nor failed",
            expected="an id that `surveyor label held` shows",
            todo="check the id",
        )

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
                cut(file, end)
        return end


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


def reasons_of(journal: Journal) -> dict[str, str]:
    """id → the last reason that stands about it."""
    return {name: str(journal.entries(name)[-1]["reason"]) for name in journal.names}
