"""Where output goes that is not Surveyor's: by descriptors, since programs and libraries pass Python by."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def off_stdout() -> Iterator[None]:
    """What is printed meanwhile goes to the standard error: the standard output belongs to the command."""
    with redirected(2, 1), contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def redirected(target: int, *descriptors: int) -> Iterator[None]:
    """What is written to these descriptors meanwhile goes to another one."""
    flush()
    kept = {number: os.dup(number) for number in descriptors if _open(number) and _open(target)}
    try:
        for number in kept:
            os.dup2(target, number)
        yield
    finally:
        flush()
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)


def _open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def flush() -> None:
    """Let what is in buffers, Python's and C's, go where it belongs now."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # replaced by anything, or closed
            stream.flush()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)  # what C and Fortran have buffered
