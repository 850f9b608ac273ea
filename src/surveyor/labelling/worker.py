"""A worker: a child process that computes labels one after the other, and can be killed without harm.

It is started with `subprocess`, not `multiprocessing`, so that it can live below any engine's own workers
(some of which may not have children of that kind), and in a session of its own, so that killing it also kills
the programs that its calculator started. A worker whose parent dies finishes the job in hand, leaves the
result in the spool, and ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ase import Atoms

from surveyor.labelling.calculators import CalculatorSpec, compute
from surveyor.labelling.spool import Result, compute_once, read_result, touch, write_result
from surveyor.threads import THREADS
from surveyor.types import Failure

GRACE = 5.0
"""Seconds after its time limit at which a worker without a parent ends itself."""


@dataclass(frozen=True, eq=False)
class Job:
    """One label to compute.

    | field      | meaning                                            | unit |
    |------------|----------------------------------------------------|------|
    | spool      | folder of the hand-over, the same on every machine |      |
    | name       | id of the structure                                |      |
    | spec       | the calculator                                     |      |
    | atoms      | the structure                                      |      |
    | time_limit | the worker is killed after this time               | s    |
    | cores      | threads of the calculation                         |      |
    """

    spool: Path
    name: str
    spec: CalculatorSpec
    atoms: Atoms
    time_limit: float | None = None
    cores: int = 1


class Abandoned(Exception):  # noqa: N818  (a notice, not an error)
    """The campaign ends; the job goes on without it, and its result waits in the spool."""


class WorkerLost(Exception):  # noqa: N818
    """A worker died before it began with the job: that says nothing about the structure."""


class Worker:
    """The parent's handle on a worker process."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._connection, theirs = Pipe()
        environment = {**os.environ, **dict.fromkeys(THREADS, str(cores))}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = f"from surveyor.labelling.worker import serve; serve({theirs.fileno()})"
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", command],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def run(self, job: Job, leave: threading.Event) -> Result | None:
        """The result; None where nobody waits for it any more. A worker that dies gives a Failure.

        Raises:
            Abandoned: `leave` was set.
            WorkerLost: the worker died before it began.
            SurveyorError: the calculator's settings cannot work, or the disk is full.
        """
        begin = None
        try:
            self._connection.send(job)
            while True:
                if not self._connection.poll(_patience(begin, job.time_limit)):
                    if leave.is_set():
                        self._detach()
                        raise Abandoned
                    if begin is not None:
                        touch(job.spool / f"{job.name}.claim")
                        if job.time_limit and time.monotonic() - begin >= job.time_limit:
                            return self._overdue(job)
                    continue
                message = self._connection.recv()
                if message == "begun":
                    begin = time.monotonic()
                elif isinstance(message, Exception):
                    raise message
                else:
                    return message  # type: ignore[no-any-return]
        except (EOFError, BrokenPipeError, ConnectionResetError):
            code = self.kill()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            if begin is None:
                raise WorkerLost(f"a worker died before it began ({how})") from None
            cost = (time.monotonic() - begin) * job.cores
            return read_result(job.spool, job.name) or Failure(
                f"its worker process died ({how}; out of memory?)", core_seconds=cost
            )

    @property
    def usable(self) -> bool:
        return not self._connection.closed and self._process.poll() is None

    def _overdue(self, job: Job) -> Failure:
        self.kill()
        assert job.time_limit is not None  # noqa: S101
        cost = job.time_limit * job.cores
        # The same input would take as long again.
        failure = Failure(f"it took longer than the time limit of {job.time_limit:g} s", True, cost)
        write_result(job.spool, job.name, failure)
        (job.spool / f"{job.name}.claim").unlink(missing_ok=True)
        return failure

    def kill(self) -> int:
        """End the worker and everything that it started; its exit code."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._connection.close()
        return self._process.wait()

    def _detach(self) -> None:
        self._connection.close()
        self._process.returncode = 0  # nobody will wait for it; Popen would warn

    def close(self) -> None:
        """Let an idle worker end."""
        self._connection.close()
        self._process.wait()


def _patience(begin: float | None, limit: float | None) -> float:
    """Seconds until there is something to look after."""
    if begin is None or limit is None:
        return 0.5
    return min(max(begin + limit - time.monotonic(), 0.0), 0.5)


# ---- in the engine's process: one worker for each job that it runs at a time ------------------------

_idle: list[Worker] = []
leaving = threading.Event()
"""Set when the process ends while jobs run."""


def run_job(job: Job) -> Result | None:
    """What every engine executes: one label, in a worker of its own process."""
    worker = None
    while _idle and worker is None:
        candidate = _idle.pop()
        if candidate.usable and candidate.cores == job.cores:
            worker = candidate
        else:
            candidate.kill()
    worker = worker or Worker(job.cores)
    try:
        return worker.run(job, leaving)
    finally:
        if worker.usable:
            _idle.append(worker)


def close_workers() -> None:
    """Let the idle workers of this process end."""
    while _idle:
        _idle.pop().close()


# ---- in the worker ----------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Answer jobs until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    connection: Connection[Any, Any] = Connection(descriptor)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return

        def deliver(message: object) -> None:
            with contextlib.suppress(OSError):  # the parent is gone: the result is in the spool
                connection.send(message)

        try:
            compute_once(job.spool, job.name, _timed(job, deliver), deliver=deliver)
        except Exception as error:
            deliver(error)


def _timed(job: Job, deliver: Callable[[object], None]) -> Callable[[], Result]:
    def work() -> Result:
        job.spec.load_class()  # an import may take its time; the limit is for the calculation
        deliver("begun")
        with _guard(job.time_limit):
            begin = time.monotonic()
            result = compute(job.spec, job.atoms)
            return replace(result, core_seconds=(time.monotonic() - begin) * job.cores)

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
