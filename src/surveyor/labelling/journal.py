"""Append-only files: what is written is on the disk before the call returns, or not there at all."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import IO, Any

from surveyor.errors import LabellingError
from surveyor.structures.writing import write_error


def append_durably(path: Path, content: bytes, end: int) -> None:
    """Append and wait for the disk; after a failed write the file is cut back to `end` bytes.

    Raises:
        SurveyorError: the disk is full, or the file cannot be written.
    """
    try:
        # Unbuffered: what a failed write leaves in a buffer would be written after the cut.
        with path.open("ab", buffering=0) as file:
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                cut(file, end)
                raise
    except OSError as error:
        raise write_error(path, error) from error


def cut(file: IO[bytes], end: int) -> None:
    """Shorten a file; a full disk does not stand in the way."""
    try:
        file.truncate(end)
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


class Journal:
    """One JSON object a line, each about one structure; opening cuts a torn last line.

    Args:
        path: made with the first entry.
        read_only: open without cutting, and refuse to append.

    `released` holds the structures that were ever released.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self.released: set[str] = set()
        self._by_name: dict[str, list[dict[str, Any]]] = {}
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content) and not read_only:
            with path.open("r+b") as file:
                cut(file, len(whole))
        self._end = len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def append(self, name: str, **entry: object) -> None:
        """Write an entry.

        Raises:
            LabellingError: the journal is read-only.
            SurveyorError: the disk is full.
        """
        if self.read_only:
            raise LabellingError(f"{self.path} was opened read-only", expected="the owner of the campaign")
        whole = {"id": name, **entry, "time": round(time.time(), 6)}
        line = (json.dumps(whole) + "\n").encode()
        append_durably(self.path, line, self._end)
        self._end += len(line)
        self._take(whole)

    def release(self, name: str) -> None:
        """Take back all that was said about a structure; the file keeps it."""
        self.append(name, released=True)

    def _take(self, entry: dict[str, Any]) -> None:
        if entry.get("released"):
            self._by_name.pop(entry["id"], None)
            self.released.add(entry["id"])
        else:
            self._by_name.setdefault(entry["id"], []).append(entry)

    def entries(self, name: str) -> list[dict[str, Any]]:
        """What stands about a structure, oldest first."""
        return list(self._by_name.get(name, []))

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @property
    def names(self) -> list[str]:
        """The structures about which anything stands, in the order of their first entries."""
        return list(self._by_name)
