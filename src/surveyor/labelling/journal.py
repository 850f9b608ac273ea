"""Append-only files: what is written is on the disk before the call returns, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from surveyor.errors import LabellingError
from surveyor.labelling.shared_files import open_regular
from surveyor.structures.writing import write_error

Entry = TypeVar("Entry")


def append_durably(path: Path, content: bytes, end: int) -> None:
    """Append and wait for the disk; after a failed write the file is cut back to `end` bytes.

    Args:
        end: length of the file before, as the caller knows it.

    Raises:
        LabellingError: the file has another length: somebody else writes to it, or took it away.
        SurveyorError: the disk is full, the file cannot be written, or it is a symbolic link.
    """
    try:
        with own_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
            length = os.fstat(file.fileno()).st_size
            if length != end:
                raise LabellingError(
                    f"{path} has {length} bytes, where this process left {end}",
                    expected="one process that writes to it",
                    todo="see what else writes there, and run the same command again; nothing was written",
                )
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                cut(file, end)
                raise
        if end == 0:
            _keep_name(path)
    except OSError as error:
        raise write_error(path, error) from error


@contextlib.contextmanager
def own_file(path: Path, flags: int) -> Iterator[IO[bytes]]:
    """A file of our own, unbuffered; where a link, a pipe or the like lies under its name, it is left alone.

    Unbuffered: what a failed write leaves in a buffer would be written after the cut.

    Raises:
        LabellingError: it is no ordinary file.
    """
    try:
        descriptor = open_regular(path, flags)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EINVAL):
            raise
        raise LabellingError(
            f"{path} is a symbolic link, a pipe or the like",
            expected="an ordinary file that Surveyor wrote",
            todo="see who put it there, and move it away",
        ) from error
    mode = "rb" if flags & (os.O_WRONLY | os.O_RDWR) == 0 else "r+b" if flags & os.O_RDWR else "ab"
    with open(descriptor, mode, buffering=0) as file:  # noqa: PTH123  (a descriptor, not a path)
        yield file


def _keep_name(path: Path) -> None:
    """Wait until the disk has the name of a new file, too."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cut(file: IO[bytes], end: int) -> None:
    """Shorten a file; a full disk does not stand in the way."""
    try:
        file.truncate(end)
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


class Lines(Generic[Entry]):
    """An append-only file with an entry a line; opening cuts a torn last one, and ends one that is whole.

    Args:
        path: made with the first entry.
        read: what a line says; None: nothing that can be read.
        read_only: open without cutting, and refuse to append.

    `entries` holds what was read, `damaged` the numbers of lines that say nothing; they are passed over.
    """

    def __init__(self, path: Path, read: Callable[[bytes], Entry | None], *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        content = b""
        if path.exists():
            with own_file(path, os.O_RDONLY) as file:
                content = file.read()
        *lines, rest = content.split(b"\n")
        found = [read(line) for line in lines]
        last = read(rest)  # whole, but for its line end
        self.entries = [entry for entry in (*found, last) if entry is not None]
        self.damaged = [number for number, entry in enumerate(found, 1) if entry is None]
        self._end = len(content) - len(rest)
        if not rest or read_only:
            return
        if last is not None:
            append_durably(path, b"\n", len(content))
            self._end = len(content) + 1
        else:
            with own_file(path, os.O_RDWR) as file:
                cut(file, self._end)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write an entry as a line of JSON.

        Raises:
            LabellingError: the file was opened read-only.
            SurveyorError: the disk is full.
        """
        if self.read_only:
            raise LabellingError(f"{self.path} was opened read-only", expected="the owner of the campaign")
        line = (json.dumps(entry) + "\n").encode()
        append_durably(self.path, line, self._end)
        self._end += len(line)


class Journal:
    """One JSON object a line, each about one structure; opening cuts a torn last line.

    Args:
        path: made with the first entry.
        read_only: open without cutting, and refuse to append.

    `released` holds the structures that were ever released, `damaged` the numbers of lines that say nothing
    that can be read; they are passed over.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.released: set[str] = set()
        self._by_name: dict[str, list[dict[str, Any]]] = {}
        self._lines = Lines(path, _entry, read_only=read_only)
        self.damaged = self._lines.damaged
        for entry in self._lines.entries:
            self._take(entry)

    def append(self, name: str, **entry: object) -> None:
        """Write an entry.

        Raises:
            LabellingError: the journal is read-only.
            SurveyorError: the disk is full.
        """
        whole = {"id": name, **entry, "time": round(time.time(), 6)}
        self._lines.append(whole)
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


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says, or None where it says nothing that can be used."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return None
    numbers = [entry.get("time", 0.0), entry.get("core_seconds", 0.0)]
    if not all(isinstance(n, int | float) and math.isfinite(n) and n >= 0 for n in numbers):
        return None
    return entry if entry.get("released") is True or isinstance(entry.get("reason"), str) else None
