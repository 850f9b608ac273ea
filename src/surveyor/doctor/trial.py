"""Frames through the campaign's calculator, in a process that can be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from ase import Atoms

from surveyor.errors import SurveyorError
from surveyor.labelling import CalculatorSpec, compute
from surveyor.threads import one_thread
from surveyor.types import Failure, Labels

START = 180
"""Seconds in which a worker process has imported what it needs, on a busy machine."""


@dataclass(frozen=True)
class Trial:
    """What came of it: labels, or a reason; `timed_out` where the time limit ended it."""

    result: Labels | Failure
    seconds: float
    timed_out: bool = False


def try_calculator(spec: CalculatorSpec, frames: Sequence[Atoms], time_limit: float) -> list[Trial]:
    """Label frames in a worker process with a session of its own, up to the first that fails.

    Past the limit of seconds for one frame the worker is killed with all that it started.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_work, args=(theirs, spec), daemon=True)
    with one_thread():
        worker.start()
    theirs.close()
    trials: list[Trial] = []
    try:
        for atoms in frames:
            trials.append(_one(ours, worker, atoms, time_limit))
            if isinstance(trials[-1].result, Failure):
                break
    finally:
        ours.close()
        _end(worker)
    return trials


def _one(ours: Connection, worker: SpawnProcess, atoms: Atoms, time_limit: float) -> Trial:
    begin = time.monotonic()
    try:
        # the worker is ready when its imports are done: the limit is the calculator's alone
        if not ours.poll(START):
            return Trial(Failure(f"the worker process did not start within {START} s"), START)
        ours.recv()
        ours.send(atoms)
        begin = time.monotonic()
        if not ours.poll(time_limit):
            return Trial(Failure(f"no result within {time_limit:g} s"), time.monotonic() - begin, True)
        result: Labels | Failure = ours.recv()
    except (EOFError, ConnectionError):
        worker.join(5)
        result = Failure(f"the worker process died (exit code {worker.exitcode})")
    return Trial(result, time.monotonic() - begin)


def _end(worker: SpawnProcess) -> None:
    """Kill the worker and whatever it started."""
    if worker.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(worker.pid) == worker.pid:
                os.killpg(worker.pid, signal.SIGKILL)
        if worker.is_alive():
            worker.kill()
    worker.join(5)


def _work(connection: Connection, spec: CalculatorSpec) -> None:
    os.setsid()
    os.dup2(2, 1)  # what a program prints must not mix with the table or the JSON
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has seen enough
        while True:
            connection.send("ready")
            atoms = connection.recv()
            try:
                connection.send(compute(spec, atoms))
            except SurveyorError as fault:
                connection.send(Failure(fault.got))
