"""Labels from an engine, yielded as they finish; whatever happens to the engine, no result is lost."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import replace
from pathlib import Path

from ase import Atoms

from surveyor.errors import LabellingError, SurveyorError
from surveyor.labelling.calculators import CalculatorSpec
from surveyor.labelling.claims import drop_claim, in_flight
from surveyor.labelling.engines import Engine
from surveyor.labelling.results import Order, Result, set_aside
from surveyor.labelling.spool import (
    finished,
    forget,
    order,
    our_order,
    read_result,
    set_old_aside,
    spool_of,
    sweep,
)  # fmt: skip
from surveyor.labelling.worker import Job, run_job
from surveyor.types import Failure, Labeller

POLL = 0.5
"""Seconds between two looks into the spool."""

MAX_LOST = 3
"""A job that the engine loses this often without a result becomes a Failure."""


class EngineLabeller:
    """Labels with an ASE calculator on an engine.

    Args:
        spool: folder where workers leave finished results until they are collected; with an engine of several
            machines, one that all of them see. None takes a temporary folder.
        failed: folder where the files of failed calculations are kept; None: they are not.
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
        failed: Path | None = None,
        time_limit: float | None = None,
    ) -> None:
        spec.load_class()
        self.spec = spec
        self.engine = engine
        self.spool = spool
        self.failed = failed
        self.time_limit = time_limit
        self.method = spec.method  # once: a file that changes meanwhile must not change it half-way

    @property
    def legacy(self) -> EngineLabeller | None:
        """The same labels as an earlier version of Surveyor named them; None where the name is the same.

        It gave no heed to the content of files, nor to free energies.
        """
        spec = replace(self.spec, legacy=True)
        if self.spec.legacy or spec.method == self.method:
            return None
        return EngineLabeller(
            spec, self.engine, spool=self.spool, failed=self.failed, time_limit=self.time_limit
        )

    def __call__(self, todo: Mapping[str, Atoms]) -> Iterator[tuple[str, Result]]:
        if self.spool is not None:
            yield from self._label(todo, self.spool.absolute())
            return
        with tempfile.TemporaryDirectory(prefix="surveyor-", ignore_cleanup_errors=True) as folder:
            yield from self._label(todo, Path(folder))

    def _label(self, todo: Mapping[str, Atoms], root: Path) -> Iterator[tuple[str, Result]]:
        set_old_aside(root)
        spool = spool_of(root, self.method)
        sweep(spool, todo)
        waiting = dict(todo)
        for name in finished(spool):  # left by an earlier, interrupted run
            result = self._left(spool, name, waiting[name]) if name in waiting else None
            if result is not None:
                yield name, result
                forget(spool, name)
                del waiting[name]
        if waiting:
            with self.engine.open(spool) as executor:
                for name, result in self._run(executor, waiting, spool):
                    yield name, result
                    forget(spool, name)  # the caller came back for more, so it has kept this result
        sweep(spool, ())
        with contextlib.suppress(OSError):  # results that were set aside stay
            spool.rmdir()

    def _left(self, spool: Path, name: str, atoms: Atoms) -> Result | None:
        """A result that an earlier run of ours ordered."""
        placed = our_order(spool, name, self.method)
        if placed is None:
            set_aside(spool / f"{name}.json", "nobody here ordered it")
            return None
        return read_result(spool, placed, len(atoms))

    def _run(
        self, executor: Executor, waiting: Mapping[str, Atoms], spool: Path
    ) -> Iterator[tuple[str, Result]]:
        queue = deque(waiting)
        orders: dict[str, Order] = {}
        running: dict[Future[Result | None], str] = {}
        elsewhere: set[str] = set()
        lost: Counter[str] = Counter()

        def answer(name: str) -> Result | None:
            return read_result(spool, orders[name], len(waiting[name]))

        while queue or running or elsewhere:
            while queue and len(running) < self.engine.workers:
                name = queue.popleft()
                orders[name] = order(spool, name, self.method)
                if in_flight(spool, name):  # an earlier run's worker has it
                    elsewhere.add(name)
                    continue
                drop_claim(spool, name)
                running[self._submit(executor, waiting[name], name, spool)] = name
            done = wait(running, timeout=POLL, return_when=FIRST_COMPLETED).done if running else _pause()
            for future, name in list(running.items()):
                if future not in done:
                    # The spool is the shorter way, and the only one where an engine loses sight of a job.
                    if (result := answer(name)) is not None:
                        del running[future]
                        yield name, result
                    continue
                del running[future]
                result, why = _outcome(future, functools.partial(answer, name))
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
                if (result := answer(name)) is not None:
                    elsewhere.discard(name)
                    yield name, result
                elif not alive:
                    elsewhere.discard(name)
                    queue.append(name)

    def _submit(self, executor: Executor, atoms: Atoms, name: str, spool: Path) -> Future[Result | None]:
        job = Job(
            spool, name, self.method, self.spec.resolved(), atoms, self.time_limit, self.engine.cores,
            None if self.failed is None else self.failed.absolute(),
        )  # fmt: skip
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


def _outcome(future: Future[Result | None], answer: Callable[[], Result | None]) -> tuple[Result | None, str]:
    """The result, from the future or from the spool; or None, and why there is none."""
    why = "no result"
    try:
        result = future.result()
    except SurveyorError:
        if (found := answer()) is None:
            raise
        return found, ""
    except (Exception, CancelledError) as error:
        result, why = None, _short(error)
    return result if result is not None else answer(), why


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"


def labeller_of(recorded: str, labeller: Labeller) -> Labeller | None:
    """The labeller that goes on with labels whose method was recorded under a name.

    It is the labeller itself, or the same as the previous version of Surveyor named it; None: another method.
    """
    if labeller.method == recorded:
        return labeller
    legacy = labeller.legacy if isinstance(labeller, EngineLabeller) else None
    return legacy if legacy is not None and legacy.method == recorded else None
