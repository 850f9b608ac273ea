"""The journal of paid labels: append-only, one sealed frame per label."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from surveyor.errors import LabellingError, StructureError, SurveyorError, notice
from surveyor.labelling.journal import Journal, append_durably, cut, own_file
from surveyor.labelling.names import check_method_name
from surveyor.labelling.screening import DOUBT
from surveyor.labelling.sealing import Scan, recover, scan, seal, unseal, why_unreadable
from surveyor.structures.identity import essential, structure_id
from surveyor.structures.labels import with_labels
from surveyor.structures.real import NotRealError, real, real_labels
from surveyor.structures.writing import atomic_write, write_error
from surveyor.types import Failure, Labels

COST = "surveyor_core_seconds"
"""The key under which a label carries what it cost."""

ENERGY_IS = "surveyor_energy"
"""The key under which a label says that its energy is a free energy."""

GROUPS = ("config_type", "reaction")
"""Keys of a structure's origin that a label keeps, where they are plain words."""


class Ledger:
    """Labels of one method, on disk the moment they arrive; never rewritten.

    Opening cuts what an interrupted write has left behind the last whole frame. Everything else that does not
    fit its seal, and fewer labels than were paid for, are errors; `repair` keeps what is whole.

    A label in quarantine stays in the journal; a second journal names it and the reason until a person
    releases it.

    Args:
        folder: holds `<method>.extxyz`, `<method>.paid.json` (how many labels), `<method>.failures.jsonl` and
            `<method>.quarantine.jsonl`.
        read_only: open without cutting, and refuse to append.
        paid: labels that were paid for so far, as far as the caller knows.

    Raises:
        LabellingError: the journal is damaged or missing, or labels are missing from it.
    """

    def __init__(self, folder: Path, method: str, *, read_only: bool = False, paid: int = 0) -> None:
        self.path = folder / f"{check_method_name(method, str(folder))}.extxyz"
        self.read_only = read_only
        self._structures: dict[str, Atoms] = {}
        if not read_only:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(folder, error) from error
        self._end = self._load(max(paid, paid_labels(self.path)))
        self._failures = Journal(folder / f"{method}.failures.jsonl", read_only=read_only)
        for number in self._failures.damaged:
            notice(f"{self._failures.path}, line {number}, is damaged: a failed attempt is forgotten")
        self._quarantine = Journal(folder / f"{method}.quarantine.jsonl", read_only=read_only)
        if self._quarantine.damaged:
            raise LabellingError(
                f"{self._quarantine.path}, line {self._quarantine.damaged[0]}, is damaged: "
                "it holds back a label that nobody should train on",
                expected="a file that only Surveyor writes to",
                todo="restore it from a copy, or mend the line by hand",
            )

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
        """Show that the labels of these structures will survive the journal, before anything is paid for.

        Raises:
            LabellingError: a structure comes out of its frame with another id.
        """
        for name, atoms in structures.items():
            _sealed(name, atoms, Labels(0.0, np.zeros((len(atoms), 3))))

    def append(self, name: str, atoms: Atoms, labels: Labels) -> None:
        """Write a label and wait until the disk has it; an id that is there already is left alone.

        Raises:
            LabellingError: the id does not belong to the structure, the label is not of real, finite numbers,
                or the ledger is read-only.
            SurveyorError: the disk is full; the journal stays whole.
        """
        if self.read_only:
            raise LabellingError(f"{self.path} was opened read-only", expected="the owner of the campaign")
        if structure_id(atoms) != name:
            raise LabellingError(f"label {name} is not of this structure", expected=structure_id(atoms))
        if name in self._structures:
            return
        content, labelled = _sealed(name, atoms, labels)
        append_durably(self.path, content, self._end)
        self._end += len(content)
        self._structures[name] = labelled
        self._keep_count()

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
        """Trust a label in quarantine, or let a failed structure be tried again; "label" or "failure".

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

    def _load(self, paid: int) -> int:
        """Read all whole frames; return the length of the file that they take."""
        found = Scan([], 0, b"", True)
        if self.path.exists():
            try:
                with own_file(self.path, os.O_RDONLY) as raw, io.BufferedReader(raw) as file:  # type: ignore[type-var]
                    found = scan(file)
            except OSError as error:
                raise LabellingError(f"cannot read {self.path}: {error.strerror or error}") from error
        # A disk that lost the end of a label it had confirmed has lost this one label.
        torn = bool(found.rest) and found.torn
        if not found.torn or len(found.atoms) + torn < paid:
            raise self._damaged(found, paid)
        for atoms in found.atoms:
            self._structures[_name(atoms)] = atoms
        if self.read_only:
            return found.end
        if found.rest:
            notice(
                f"{self.path}: {len(found.rest)} bytes of an unfinished label were cut (an interrupted write)"
            )
            with own_file(self.path, os.O_RDWR) as file:
                cut(file, found.end)
        if not found.ended:
            append_durably(self.path, b"\n", found.end)
        if len(self) != paid_labels(self.path):
            self._keep_count()
        return found.end + (not found.ended)

    def _damaged(self, found: Scan, paid: int) -> LabellingError:
        mend = f"surveyor label repair {self.path.parent.parent}"
        if not self.path.exists():
            return LabellingError(
                f"{self.path} is missing; {paid} labels were paid for",
                expected="the journal where it was",
                todo=f"restore it from a copy; if it is lost for good, {mend} --accept-loss",
            )
        if found.torn:
            what, whole = "was cut short", len(found.atoms)
        else:
            content = self.path.read_bytes()
            what, whole = f"is damaged: {why_unreadable(content)}", len(recover(content))
        count = f"{whole} of {paid}" if paid else f"{whole}"
        return LabellingError(
            f"{self.path} {what}. {count} labels are whole; nothing was changed",
            expected="a journal that only Surveyor writes to",
            todo=f"restore it from a copy, or keep what is whole: {mend}",
        )

    def _keep_count(self) -> None:
        """Put on record how many labels the journal holds; a full disk does not stand in the way."""
        try:
            keep_count(self.path, len(self))
        except SurveyorError as error:
            notice(f"{error.got}; the label itself is safe")


def _name(atoms: Atoms) -> str:
    """The id; made anew, for the first edition's did not see magnetic moments."""
    try:
        return structure_id(atoms)
    except StructureError:  # a charge that the first edition rounded
        return str(atoms.info["surveyor_id"])


def _sealed(name: str, atoms: Atoms, labels: Labels) -> tuple[bytes, Atoms]:
    """A label as it goes into the journal, and as it comes out.

    Raises:
        LabellingError: it would come out with another id, or is not of real, finite numbers.
    """
    content = seal(_frame(name, atoms, labels))
    again = unseal(content)
    if again is None or structure_id(again) != name:
        raise LabellingError(
            f"structure {name} ({atoms.symbols}) would not come out of the journal as it goes in",
            expected="a structure that extended XYZ can hold",
            todo="look at its positions, cell, charge and magnetic moments",
        )
    return content, again


def _frame(name: str, atoms: Atoms, labels: Labels) -> Atoms:
    """What the journal keeps: all that decides the numbers, the numbers, and a few known keys.

    Raises:
        LabellingError: the label is not of real, finite numbers.
    """
    try:
        numbers = real_labels(labels.energy, labels.forces, labels.stress, len(atoms))
        core_seconds = float(real(labels.core_seconds, (), "core seconds"))
    except NotRealError as error:
        raise LabellingError(
            f"label {name} is none: {error}",
            expected="real, finite numbers: an energy, forces (atoms, 3), perhaps a stress of six components",
            todo="compute it again",
        ) from error
    labelled = with_labels(essential(atoms), numbers)
    if core_seconds:
        labelled.info[COST] = round(core_seconds, 3)
    if labels.doubt:
        labelled.info[DOUBT] = _plain_text(str(labels.doubt))
    if labels.free_energy:
        labelled.info[ENERGY_IS] = "free energy"
    for key in GROUPS:
        value = atoms.info.get(key)
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.+-]*", value):
            labelled.info[key] = value
        elif isinstance(value, int | np.integer) and not isinstance(value, bool):
            labelled.info[key] = int(value)
    return labelled


def _plain_text(text: str) -> str:
    """Words that extended XYZ holds as they are: printable ASCII without quotes and backslashes."""
    words = " ".join(text.encode("ascii", "replace").decode().split())
    return re.sub(r"[^ !#-&(-\[\]-~]", "?", words)[:500] or "no reason given"


def _tally(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix('.extxyz')}.paid.json")


def paid_labels(path: Path) -> int:
    """How many labels a journal holds, as was put on record; 0 where nothing is."""
    tally = _tally(path)
    if not tally.exists():
        return 0
    try:
        with own_file(tally, os.O_RDONLY) as file:
            labels = json.loads(file.read(4096))["labels"]
        if not isinstance(labels, int):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        notice(f"{tally} is damaged: how many labels were paid for is taken from the journal alone")
        return 0
    return labels


def keep_count(path: Path, labels: int) -> None:
    """Put on record how many labels a journal holds."""
    atomic_write(_tally(path), lambda file: file.write(json.dumps({"labels": labels}) + "\n"))


def reasons_of(journal: Journal) -> dict[str, str]:
    """id → the last reason that stands about it."""
    return {name: str(journal.entries(name)[-1]["reason"]) for name in journal.names}
