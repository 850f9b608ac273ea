"""One thread a process: small models and single labels share the cores better as processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
"""What numerical libraries read once, when they load."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Processes that are started meanwhile inherit one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
