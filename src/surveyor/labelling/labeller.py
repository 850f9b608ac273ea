"""Labels from an engine, yielded as they finish; whatever happens to the engine, no result is lost."""

from __future__ import annotations

import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from pathlib import Path

from ase import Atoms

from surveyor.errors import LabellingError, SurveyorError
from surveyor.labelling.calculators import CalculatorSpec
from surveyor.labelling.engines import Engine
from surveyor.labelling.spool import Result, finished, forget, in_flight, order, read_result, sweep
from surveyor.labelling.worker import Job, run_job
from surveyor.types import Failure

POLL = 0.5
"""Seconds between two looks into the spool."""

MAX_LOST = 3
"""A job that the engine loses this often without a result becomes a Failure."""


class EngineLabeller:
    """Labels with an ASE calculator on an engine.

    Args:
        spec: the calculator.
        engine: where the jobs run.
        spool: folder where workers leave finished results until they are collected; with an engine of
            several machines, one that all of them see. None takes a temporary folder.
        time_limit: seconds for each label; None: no limit.

    Raises:
        LabellingError: the calculator cannot be imported.
    """

    def __init__(
        self,
        spec: CalculatorSpec,
        engine: Engine,
        *,
        spool: Path | None = None,
        time_limit: float | None = None,
    ) -> None:
        spec.load_class()
        self.spec = spec
        self.engine = engine
        self.spool = spool
        self.time_limit = time_limit

    @property
    def method(self) -> str:
        return self.spec.method

    def __call__(self, todo: Mapping[str, Atoms]) -> Iterator[tuple[str, Result]]:
        if self.spool is not None:
            yield from self._label(todo, self.spool.absolute())
            return
        with tempfile.TemporaryDirectory(prefix="surveyor-", ignore_cleanup_errors=True) as folder:
            yield from self._label(todo, Path(folder))

    def _label(self, todo: Mapping[str, Atoms], spool: Path) -> Iterator[tuple[str, Result]]:
        sweep(spool, todo)
        waiting = dict(todo)
        for name in finished(spool):  # left by an earlier, interrupted run
            result = read_result(spool, name)
            if name in waiting and result is not None:
                yield name, result
                forget(spool, name)
                del waiting[name]
        if not waiting:
            sweep(spool, ())
            return
        with self.engine.open(spool) as executor:
            for name, result in self._run(executor, waiting, spool):
                yield name, result
                forget(spool, name)  # the caller came back for more, so it has kept this result
        sweep(spool, ())

    def _run(
        self, executor: Executor, waiting: Mapping[str, Atoms], spool: Path
    ) -> Iterator[tuple[str, Result]]:
        queue = deque(waiting)
        running: dict[Future[Result | None], str] = {}
        elsewhere: set[str] = set()
        lost: Counter[str] = Counter()
        while queue or running or elsewhere:
            while queue and len(running) < self.engine.workers:
                name = queue.popleft()
                if in_flight(spool, name):  # an earlier run's worker has it
                    elsewhere.add(name)
                    continue
                order(spool, name)
                running[self._submit(executor, waiting[name], name, spool)] = name
            done = wait(running, timeout=POLL, return_when=FIRST_COMPLETED).done if running else _pause()
            # The spool is the shorter way, and the only one where an engine loses sight of a job.
            done |= {future for future, name in running.items() if (spool / f"{name}.json").exists()}
            for future in done:
                name = running.pop(future)
                result, why = _outcome(future, spool, name)
                if result is not None:
                    yield name, result
                    continue
                lost[name] += 1
                if in_flight(spool, name):
                    elsewhere.add(name)  # the engine lost the job, not its worker
                elif lost[name] >= MAX_LOST:
                    yield name, Failure(f"the engine lost it {MAX_LOST} times; the last time: {why}")
                else:
                    queue.append(name)
            for name in sorted(elsewhere):
                alive = in_flight(spool, name)  # before the look for a result: it may just be written
                result = read_result(spool, name)
                if result is not None:
                    elsewhere.discard(name)
                    yield name, result
                elif not alive:
                    elsewhere.discard(name)
                    queue.append(name)

    def _submit(self, executor: Executor, atoms: Atoms, name: str, spool: Path) -> Future[Result | None]:
        job = Job(spool, name, self.spec, atoms, self.time_limit, self.engine.cores)
        try:
            return executor.submit(run_job, job)
        except SurveyorError:
            raise
        except Exception as error:
            raise LabellingError(
                f"the engine takes no more jobs: {_short(error)}",
                expected="an engine that runs",
                todo="see to it and run the same command again; finished labels are safe",
            ) from error


def _pause() -> set[Future[Result | None]]:
    time.sleep(POLL)
    return set()


def _outcome(future: Future[Result | None], spool: Path, name: str) -> tuple[Result | None, str]:
    """The result, from the spool or from the future; or None, and why there is none."""
    why = "no result"
    if not future.done():
        return read_result(spool, name), why
    try:
        result = future.result()
    except SurveyorError:
        if (found := read_result(spool, name)) is None:
            raise
        return found, ""
    except (Exception, CancelledError) as error:
        result, why = None, _short(error)
    return result if result is not None else read_result(spool, name), why


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"
