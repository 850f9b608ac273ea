"""The inside of a worker: it answers jobs, each in a folder of its own, and leaves nothing running behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from surveyor import keeper
from surveyor.labelling.calculators import compute
from surveyor.labelling.results import Result
from surveyor.labelling.scratch import inside, keep, make_scratch
from surveyor.labelling.spool import compute_once
from surveyor.labelling.worker import Job
from surveyor.types import Failure

GRACE = 5.0
"""Seconds after its time limit at which a worker without a parent ends itself."""

spent = threading.Event()
"""Set when a calculation left processes behind: libraries whose helpers were killed serve no other."""


def serve(descriptor: int) -> None:
    """Answer jobs until the parent is gone, or a calculation has left processes behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    keeper.adopt_orphans()
    connection: Connection[Any, Any] = Connection(descriptor)
    while not spent.is_set():
        try:
            job: Job = connection.recv()
        except EOFError:
            return

        def deliver(message: object) -> None:
            with contextlib.suppress(OSError):  # the parent is gone: the result is in the spool
                connection.send(message)

        scratch = job.scratch or make_scratch()
        try:
            with inside(scratch):
                work = _timed(job, scratch, deliver)
                compute_once(job.spool, job.name, job.method, len(job.atoms), work, deliver=deliver)
        except Exception as error:
            deliver(error)
        shutil.rmtree(scratch, ignore_errors=True)


def _timed(job: Job, scratch: Path, deliver: Callable[[object], None]) -> Callable[[], Result]:
    def work() -> Result:
        job.spec.load_class()  # an import may take its time; the limit is for the calculation
        deliver("begun")
        with _guard(job.time_limit):
            begin = time.monotonic()
            result = compute(job.spec, job.atoms)
            if keeper.end_descendants():
                spent.set()
            cost = (time.monotonic() - begin) * job.cores
        if isinstance(result, Failure):
            result = replace(result, reason=result.reason + keep(scratch, job.failed, job.name))
        return replace(result, core_seconds=cost)

    return work


@contextlib.contextmanager
def _guard(limit: float | None) -> Any:
    """End this process some time after the limit: where the parent lives, it has done so before."""
    if limit is None:
        yield
        return
    timer = threading.Timer(limit + GRACE, os.killpg, (0, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    # A calculation may hang without letting any thread run; the alarm of the system still comes.
    signal.setitimer(signal.ITIMER_REAL, limit + 2 * GRACE)
    try:
        yield
    finally:
        timer.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)
