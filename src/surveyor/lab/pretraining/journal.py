"""An append-only file of finished tasks: a checksummed, fsynced line each; a torn tail is cut."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from surveyor.errors import LabellingError
from surveyor.lab.pretraining.frames import Frame
from surveyor.labelling.journal import append_durably, cut, own_file
from surveyor.types import Labels


class Journal:
    """Records by task key.

    A line is `<sha256 of the rest, 16 hex digits> <json>`. A line that does not end or does not match its
    checksum is where a kill struck: it and all that follows is cut off, and its tasks are done again.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        """Open or start the journal.

        Args:
            path: the file.
            head: what the records depend on (seed, frame settings, method); written as the first line.

        Raises:
            LabellingError: the file was made with another head.
        """
        self.path = path
        self.keys: set[str] = set()
        self.frames = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._end = 0
        for index, (record, end) in enumerate(_sound_lines(path)):
            if index == 0 and record != head:
                raise LabellingError(
                    f"{path} holds labels of other settings",
                    expected="the recipe that the folder was started with",
                    todo="use another folder for another recipe",
                )
            if index:
                self.keys.add(record["key"])
                self.frames += len(record["frames"])
            self._end = end
        if path.exists() and path.stat().st_size > self._end:
            with own_file(path, os.O_RDWR) as file:
                cut(file, self._end)
        if self._end == 0:
            self._write(head)

    def append(self, key: str, frames: list[Frame]) -> None:
        """Add the frames of one task; they are on disk when this returns."""
        self._write({"key": key, "frames": [_to_json(frame) for frame in frames]})
        self.keys.add(key)
        self.frames += len(frames)

    def read(self) -> Iterator[tuple[str, list[Frame]]]:
        """Key and frames of each task, in the order of the file."""
        for index, (record, _) in enumerate(_sound_lines(self.path)):
            if index:
                yield record["key"], [_from_json(frame) for frame in record["frames"]]

    def _write(self, record: dict[str, Any]) -> None:
        text = json.dumps(record, separators=(",", ":"), sort_keys=True)
        line = f"{_checksum(text.encode())} {text}\n".encode()
        append_durably(self.path, line, self._end)
        self._end += len(line)


def _sound_lines(path: Path) -> Iterator[tuple[Any, int]]:
    """Records up to the first damaged line, each with the offset of its end."""
    end = 0
    if not path.exists():
        return
    with own_file(path, os.O_RDONLY) as plain, io.BufferedReader(plain) as file:  # type: ignore[type-var]
        for line in file:
            body = line[17:-1]
            if not line.endswith(b"\n") or line[:16].decode("ascii", "replace") != _checksum(body):
                return
            end += len(line)
            yield json.loads(body), end


def _checksum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def _to_json(frame: Frame) -> dict[str, Any]:
    return {
        "numbers": frame.atoms.numbers.tolist(),
        "positions": frame.atoms.positions.round(6).tolist(),
        "energy": round(frame.labels.energy, 8),
        "forces": frame.labels.forces.round(6).tolist(),
        "config_type": frame.config_type,
        "charge": frame.charge,
        "spin": frame.spin,
    }


def _from_json(record: dict[str, Any]) -> Frame:
    return Frame(
        atoms=Atoms(record["numbers"], positions=record["positions"]),
        labels=Labels(record["energy"], np.array(record["forces"], dtype=np.float64)),
        config_type=record["config_type"],
        charge=record["charge"],
        spin=record["spin"],
        max_force=np.inf,
    )
