"""Labels from local worker processes, yielded as they finish."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from pathlib import Path

from ase import Atoms

from surveyor.errors import LabellingError
from surveyor.labelling.calculators import CalculatorSpec, compute
from surveyor.labelling.spool import compute_once, finished, forget, read_result
from surveyor.types import Failure, Labels

MAX_CRASHES = 2
"""A structure whose worker dies this often gets a Failure, so that it cannot stop the others."""

_busy = threading.Lock()


class LocalLabeller:
    """Labels with an ASE calculator in a pool of processes, one thread each.

    Args:
        spec: the calculator.
        processes: number of worker processes; None takes the number of cores.
        spool: folder where workers leave finished results until they are collected; None keeps them in
            memory only.

    Raises:
        LabellingError: the calculator cannot be imported, or does not take its settings.
    """

    def __init__(
        self, spec: CalculatorSpec, *, processes: int | None = None, spool: Path | None = None
    ) -> None:
        if processes is not None and processes < 1:
            raise LabellingError(f"processes={processes}", expected="one process or more")
        spec.load_class()
        self.spec = spec
        self.processes = processes or os.cpu_count() or 1
        self.spool = spool

    @property
    def method(self) -> str:
        return self.spec.method

    def __call__(self, todo: Mapping[str, Atoms]) -> Iterator[tuple[str, Labels | Failure]]:
        waiting = dict(todo)
        for name, result in list(self._harvest(waiting)):
            del waiting[name]
            yield name, result
            self._collected(name)
        crashes = dict.fromkeys(waiting, 0)
        while waiting:
            # After a crash, one job at a time: the next crash then names its culprit.
            careful = any(crashes[name] for name in waiting)
            lost: list[str] = []
            for name, result in self._run(waiting, 1 if careful else self.processes, lost):
                del waiting[name]
                yield name, result
                self._collected(name)
            for name in lost:
                crashes[name] += 1
                if crashes[name] >= MAX_CRASHES:
                    del waiting[name]
                    yield name, Failure(f"its worker process died {MAX_CRASHES} times (out of memory?)")

    def _harvest(self, todo: Mapping[str, Atoms]) -> Iterator[tuple[str, Labels | Failure]]:
        """Results that workers of an earlier, interrupted run left; what nobody waits for goes."""
        if self.spool is None:
            return
        for name in finished(self.spool):
            result = read_result(self.spool, name)
            if name in todo and result is not None:
                yield name, result
            else:
                forget(self.spool, name)

    def _collected(self, name: str) -> None:
        """The caller came back for more, so it has kept this result."""
        if self.spool is not None:
            forget(self.spool, name)

    def _run(
        self, todo: Mapping[str, Atoms], processes: int, lost: list[str]
    ) -> Iterator[tuple[str, Labels | Failure]]:
        """Results until all are in, or until a worker dies; `lost` then names the jobs in hand."""
        queue = iter(list(todo.items()))
        running: dict[Future[Labels | Failure], str] = {}
        with _single_threaded():
            executor = ProcessPoolExecutor(
                min(processes, len(todo)),
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
            )
            try:
                while True:
                    # Few jobs in hand at a time: a dead worker then casts suspicion on few structures.
                    for name, atoms in queue:
                        running[executor.submit(_work, self.spec, atoms, name, self.spool)] = name
                        if len(running) >= processes:
                            break
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        result = future.result()
                        yield running.pop(future), result
            except BrokenProcessPool:
                lost.extend(running.values())
            finally:
                executor.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Children inherit one thread each; the variables act when their numerical libraries load."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_worker() -> None:
    """Ctrl-C is the parent's business; a parent that died takes its idle workers along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait_for([parent.sentinel])
    with _busy:  # the job in hand is paid for: let it end and reach the spool
        os._exit(1)


def _work(spec: CalculatorSpec, atoms: Atoms, name: str, spool: Path | None) -> Labels | Failure:
    with _busy:
        if spool is None:
            return compute(spec, atoms)
        return compute_once(spool, name, lambda: compute(spec, atoms))
