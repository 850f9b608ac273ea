"""One process owns a campaign."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path
from types import TracebackType

from surveyor.errors import CampaignError
from surveyor.labelling.claims import is_running
from surveyor.structures.writing import write_error

LOCK_NAME = "owner.lock"


class CampaignLock:
    """Held while a process works on a campaign; the system lets go of it when the process dies.

    The file says who holds it. The operating system's lock decides on one machine; across machines that share
    a folder, where such locks may not reach, the name of the host in the file does.

    Raises:
        CampaignError: another process, or a process on another machine, owns the campaign.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+")
        except OSError as error:
            raise write_error(self.path, error) from error

    def __enter__(self) -> CampaignLock:
        owner = self._owner()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken(owner) from None
        except OSError:
            # This file system has no locks: the owner that the file names decides.
            if owner.get("host") == socket.gethostname() and is_running(int(str(owner["pid"]))):
                raise self._taken(owner) from None
        if owner and owner.get("host") != socket.gethostname():
            self._file.close()
            raise CampaignError(
                f"the campaign {self.path.parent} was last in the hands of process {owner['pid']} "
                f"on another machine, {owner['host']}, which did not hand it back",
                expected="one process a campaign",
                todo=f"if that process is gone, delete {self.path} and run the command again",
            )
        self._write({"host": socket.gethostname(), "pid": os.getpid()})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write(None)
        self._file.close()

    def _taken(self, owner: dict[str, object]) -> CampaignError:
        self._file.close()
        return CampaignError(
            f"the campaign {self.path.parent} is in the hands of process {owner.get('pid', '?')} "
            f"on {owner.get('host', '?')}",
            expected="one process a campaign",
            todo="wait for it, or look with `surveyor status`, which always works",
        )

    def _owner(self) -> dict[str, object]:
        self._file.seek(0)
        try:
            owner = json.loads(self._file.read() or "{}")
        except json.JSONDecodeError:
            return {}
        return owner if isinstance(owner, dict) else {}

    def _write(self, owner: dict[str, object] | None) -> None:
        try:
            self._file.seek(0)
            self._file.truncate()
            if owner:
                self._file.write(json.dumps(owner))
            self._file.flush()
        except OSError as error:
            if owner:
                raise write_error(self.path, error) from error
