"""A worker: a child process that computes labels one after the other, and can be killed without harm.

It is started with `subprocess`, not `multiprocessing`, so that it can live below any engine's own workers
(some of which may not have children of that kind), below a keeper that ends whatever its calculators started,
however the worker ends. Each calculation has a scratch folder of its own for its files and for all that it
prints. A worker whose parent dies finishes the job in hand, leaves the result in the spool, and ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path

from ase import Atoms

from surveyor import keeper
from surveyor.labelling.calculators import CalculatorSpec
from surveyor.labelling.claims import touch
from surveyor.labelling.results import Result
from surveyor.labelling.scratch import keep, make_scratch
from surveyor.labelling.spool import order_at, read_result, write_result
from surveyor.threads import THREADS
from surveyor.types import Failure


@dataclass(frozen=True, eq=False)
class Job:
    """One label to compute: `cores` threads, and a worker that is killed after `time_limit` s.

    The spool is one folder for all machines, `failed` keeps the files of failed calculations, and `scratch`
    is a folder of this calculation on the worker's machine.
    """

    spool: Path
    name: str
    method: str
    spec: CalculatorSpec
    atoms: Atoms
    time_limit: float | None = None
    cores: int = 1
    failed: Path | None = None
    scratch: Path | None = None


class Abandoned(Exception):  # noqa: N818  (a notice, not an error)
    """The campaign ends; the job goes on without it, and its result waits in the spool."""


class WorkerLost(Exception):  # noqa: N818
    """A worker died before it began with the job: that says nothing about the structure."""


def import_path() -> list[str]:
    """Where this process imports from; not the current folder, unless it was named.

    Data often lies in the current folder, and `python -c` and `python -m` would take a `numpy.py` from it.
    """
    path = [entry for entry in sys.path if Path(entry).is_absolute()]
    started_by_name = "-m" in sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    if started_by_name and not sys.flags.safe_path and str(Path.cwd()) in path:
        path.remove(str(Path.cwd()))
    return path


class Worker:
    """The parent's handle on a worker process."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._connection, theirs = Pipe()
        environment = {**os.environ, **dict.fromkeys(THREADS, str(cores))}
        if variable := environment.pop("PYTHONPATH", ""):
            # Children of a worker run in other folders; an empty entry would be whichever folder that is.
            entries = [str(Path(entry).absolute()) for entry in variable.split(os.pathsep) if entry]
            environment["PYTHONPATH"] = os.pathsep.join(entries)
        command = (
            f"import sys; sys.path[:] = {import_path()!r}; "
            f"from surveyor.labelling.serving import serve; serve({theirs.fileno()})"
        )
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                keeper.kept([sys.executable, "-P", "-c", command], "stay"),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
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
        scratch = make_scratch()
        try:
            return self._run(replace(job, scratch=scratch), scratch, leave)
        except Abandoned:
            raise  # the worker is at it
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise

    def _run(self, job: Job, scratch: Path, leave: threading.Event) -> Result | None:
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
                            reason = f"it took longer than the time limit of {job.time_limit:g} s"
                            self.kill()
                            # The same input would take as long again.
                            return _ended(job, scratch, Failure(reason, True, job.time_limit * job.cores))
                    continue
                message = self._connection.recv()
                if message == "begun":
                    begin = time.monotonic()
                elif isinstance(message, Exception):
                    raise message
                else:
                    shutil.rmtree(scratch, ignore_errors=True)
                    return message  # type: ignore[no-any-return]
        except (EOFError, BrokenPipeError, ConnectionResetError):
            code = self.kill()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            if begin is None:
                raise WorkerLost(f"a worker died before it began ({how})") from None
            cost = (time.monotonic() - begin) * job.cores
            reason = f"its worker process died ({how}; out of memory?)"
            return _ended(job, scratch, Failure(reason, core_seconds=cost))

    @property
    def usable(self) -> bool:
        return not self._connection.closed and self._process.poll() is None

    def kill(self) -> int:
        """End the worker and everything that it started; its exit code."""
        code = keeper.end(self._process)
        self._connection.close()
        return code

    def _detach(self) -> None:
        self._connection.close()
        self._process.returncode = 0  # nobody will wait for it; Popen would warn

    def close(self) -> None:
        """Let an idle worker end."""
        self._connection.close()
        self._process.wait()


def _ended(job: Job, scratch: Path, failure: Failure) -> Result:
    """What there is of a calculation whose worker is dead: a result that was whole on the disk, or a failure.

    A result beats the time limit: it is paid for.
    """
    placed = order_at(job.spool, job.name, job.method)
    if placed is not None and (found := read_result(job.spool, placed, len(job.atoms))) is not None:
        shutil.rmtree(scratch, ignore_errors=True)
        return found
    failure = replace(failure, reason=failure.reason + keep(scratch, job.failed, job.name))
    if placed is not None and failure.final:
        write_result(job.spool, placed, failure)
        (job.spool / f"{job.name}.claim").unlink(missing_ok=True)
    return failure


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
    while _idle:
        worker = _idle.pop()
        if worker.usable and worker.cores == job.cores:
            with contextlib.suppress(WorkerLost):  # it ended while nobody looked
                return _run_in(worker, job)
        else:
            worker.kill()
    return _run_in(Worker(job.cores), job)


def _run_in(worker: Worker, job: Job) -> Result | None:
    try:
        return worker.run(job, leaving)
    finally:
        if worker.usable:
            _idle.append(worker)


def close_workers() -> None:
    """Let the idle workers of this process end."""
    while _idle:
        _idle.pop().close()
