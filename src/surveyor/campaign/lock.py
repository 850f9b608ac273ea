"""One process owns a campaign."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from surveyor.errors import CampaignError, notice
from surveyor.labelling.claims import is_running
from surveyor.labelling.journal import own_file
from surveyor.structures.writing import write_error

LOCK_NAME = "owner.lock"


class Owner(NamedTuple):
    """Who holds a campaign."""

    host: str
    pid: int


def at_work(folder: Path) -> bool:
    """Whether a process works on the campaign, by what its lock file says; nothing is locked for that."""
    path = folder / LOCK_NAME
    owner = _named(path, path.read_bytes()) if path.is_file() else None
    return owner is not None and (owner.host != socket.gethostname() or is_running(owner.pid))


class CampaignLock:
    """Held while a process works on a campaign; the system lets go of it when the process dies.

    The file says who holds it. The operating system's lock decides on one machine; across machines that share
    a folder, where such locks may not reach, the name of the host in the file does. A file that names nobody
    belongs to nobody.

    Raises:
        CampaignError: another process, or a process on another machine, owns the campaign.
        LabellingError: a link or the like lies in the place of the file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        self._open = ExitStack()

    def __enter__(self) -> CampaignLock:
        with ExitStack() as undo:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = undo.enter_context(own_file(self.path, os.O_RDWR | os.O_CREAT))
            except OSError as error:
                raise write_error(self.path, error) from error
            owner = self._owner()
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._taken(owner) from None
            except OSError:
                # This file system has no locks: the owner that the file names decides.
                if owner and owner.host == socket.gethostname() and is_running(owner.pid):
                    raise self._taken(owner) from None
            if owner and owner.host != socket.gethostname():
                raise CampaignError(
                    f"the campaign {self.path.parent} was last in the hands of process {owner.pid} "
                    f"on another machine, {owner.host}, which did not hand it back",
                    expected="one process a campaign",
                    todo=f"if that process is gone, delete {self.path} and run the command again",
                )
            self._write({"host": socket.gethostname(), "pid": os.getpid()})
            self._open = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write(None)
        self._open.close()

    def _taken(self, owner: Owner | None) -> CampaignError:
        who = f"process {owner.pid} on {owner.host}" if owner else "another process"
        return CampaignError(
            f"the campaign {self.path.parent} is in the hands of {who}",
            expected="one process a campaign",
            todo="wait for it, or look with `surveyor status`, which always works",
        )

    def _owner(self) -> Owner | None:
        self._file.seek(0)
        return _named(self.path, self._file.read(4096))

    def _write(self, owner: dict[str, object] | None) -> None:
        try:
            self._file.seek(0)
            self._file.truncate()
            if owner:
                self._file.write(json.dumps(owner).encode())
        except OSError as error:
            if owner:
                raise write_error(self.path, error) from error


def _named(path: Path, content: bytes) -> Owner | None:
    if not content.strip(b"\0\n "):
        return None
    try:
        named = json.loads(content)
        return Owner(str(named["host"]), int(named["pid"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        notice(f"{path} does not say who owns the campaign; nobody, it seems")
        return None
