"""Jobs in worker processes, one thread each; a worker leaves with its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import TypeVar

from surveyor.errors import SurveyorError
from surveyor.threads import one_thread

Job = TypeVar("Job")
Result = TypeVar("Result")


def each_done(
    jobs: Sequence[Job], work: Callable[[Job], Result], processes: int
) -> Iterator[tuple[Job, Result]]:
    """(job, result) as they finish, begun in the given order.

    Args:
        work: a function at the top level of a module, called in a worker.
        processes: number of workers; 1 works in this process.

    Raises:
        SurveyorError: what a job raised, or a worker that died.
    """
    if processes == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, work(job)
        return
    queue = iter(jobs)
    running: dict[Future[Result], Job] = {}
    with one_thread():
        executor = ProcessPoolExecutor(
            min(processes, len(jobs)), mp_context=multiprocessing.get_context("spawn"), initializer=_start
        )
        try:
            while True:
                for job in queue:
                    running[executor.submit(work, job)] = job
                    if len(running) >= processes:
                        break
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    yield running.pop(future), result
        except BrokenProcessPool as error:
            raise SurveyorError(
                f"a worker process died while it did {', '.join(str(job) for job in running.values())}",
                expected="enough memory for every worker",
                todo="run the same command again, perhaps with fewer --processes; finished runs stay",
            ) from error
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _start() -> None:
    """Ctrl-C is the parent's business; what e3nn and torch say about themselves is nobody's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.filterwarnings("ignore", module=r"(torch|e3nn|mace|torch_ema|matscipy|ase)(\.|$)")
    warnings.filterwarnings("ignore", message=".*TorchScript type system.*")
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
