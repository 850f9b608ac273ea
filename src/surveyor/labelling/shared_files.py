"""Files in a folder that others may write to: no link is followed, and only regular files are read."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from surveyor.errors import LabellingError
from surveyor.labelling.names import is_structure_id
from surveyor.structures.identity import ID_LENGTH

SMALL = 10_000
"""Bytes of an order or a claim, at most."""


def file_of(folder: Path, name: str, suffix: str) -> Path:
    """`folder/<id>.suffix`.

    Raises:
        LabellingError: the name is no id.
    """
    if not is_structure_id(name):
        raise LabellingError(f"{name[:60]!r} is no id of a structure", expected=f"{ID_LENGTH} hex digits")
    return folder / f"{name}.{suffix}"


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file.

    Raises:
        OSError: there is none, or it is a link, a folder, a pipe.
    """
    # Without O_NONBLOCK, opening a pipe would wait for its other end.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return descriptor


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: there is none, or it is longer than `limit`, a link, a folder, a pipe.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"more than {limit} bytes", str(path))
    return content


def create(path: Path, content: bytes) -> None:
    """A new file that only its owner reads, on the disk before the call returns.

    Raises:
        FileExistsError: something of that name is there, be it a link to nowhere.
        OSError: it cannot be written; nothing is left of it.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise


def modified(path: Path) -> float:
    """Time of the last change of a regular file.

    Raises:
        OSError: there is none, or it is something else.
    """
    state = path.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return state.st_mtime
