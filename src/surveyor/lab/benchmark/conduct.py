"""`surveyor benchmark`: tasks, features, runs; each only where it is missing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from surveyor.errors import SurveyorError
from surveyor.lab.benchmark import maps
from surveyor.lab.benchmark.grid import CACHE, maps_needed, open_results, plan
from surveyor.lab.benchmark.latent import write_latent
from surveyor.lab.benchmark.learners import predictions
from surveyor.lab.benchmark.records import RunName, finished
from surveyor.lab.benchmark.run import run
from surveyor.lab.benchmark.schema import BenchmarkSpec, MapSpec
from surveyor.lab.benchmark.tasks import Task, prepare, read_task
from surveyor.lab.workers import each_done
from surveyor.progress import Progress, Silent
from surveyor.structures.writing import atomic_write

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """How many runs the grid has, and how many were done now."""

    total: int
    done_now: int


@dataclass(frozen=True)
class _Work:
    """What a worker needs to know of the benchmark."""

    spec: BenchmarkSpec
    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / CACHE


@dataclass(frozen=True)
class _TaskJob(_Work):
    task: str

    def __str__(self) -> str:
        return f"task {self.task}"


@dataclass(frozen=True)
class _RowsJob(_Work):
    task: str
    map: MapSpec | None
    parts: tuple[str, ...] | None

    def __str__(self) -> str:
        return f"features of {self.task}"


@dataclass(frozen=True)
class _RunJob(_Work):
    name: RunName

    def __str__(self) -> str:
        return f"run {self.name.learner}/{self.name.task}/{self.name.strategy}/{self.name.seed}"


def benchmark(
    spec: BenchmarkSpec, folder: Path, *, processes: int | None = None, progress: Progress | None = None
) -> Outcome:
    """Do all runs that the folder does not hold yet.

    Args:
        folder: results; made if it is not there.
        processes: one thread each; None takes all cores.

    Raises:
        SurveyorError: the folder is of another benchmark, or data, labels or trainings failed.
    """
    progress = progress or Silent()
    processes = processes or os.cpu_count() or 1
    runs = plan(spec)
    potential = maps.opened(spec.model, spec.device, spec.head)
    done = finished(folder)
    todo = [name for name in runs if name.record not in done]
    wanted = maps_needed(spec, todo)
    # a map that cannot be (a missing package, a layer too many) is found now, not after an hour
    for _, own, _ in wanted:
        maps.build_map(own, potential, potential.elements)
    open_results(spec, potential.fingerprint, folder)
    tasks = list(dict.fromkeys(name.task for name in todo))
    _all(progress, "tasks", [_TaskJob(spec, folder, task) for task in tasks], _prepare, processes)
    rows = [_RowsJob(spec, folder, task, None, None) for task in tasks]
    rows += [_RowsJob(spec, folder, *one) for one in wanted]
    _all(progress, "features", rows, _featurise, processes)
    latent = [
        _TaskJob(spec, folder, task) for task in tasks if not (folder / "latent" / f"{task}.json").is_file()
    ]
    _all(progress, "latent maps", latent, _map_latent, processes)
    results = _all(progress, "runs", [_RunJob(spec, folder, name) for name in todo], _run, processes)
    failed = {job: reason for job, reason in results.items() if reason is not None}
    if failed:
        name, reason = next(iter(failed.items()))
        raise SurveyorError(
            f"{len(failed)} of {len(todo)} runs failed; {name}: {reason}",
            todo="all others are done and stay; the same command tries the failed ones again",
        )
    return Outcome(len(runs), len(todo))


def _all(
    progress: Progress, what: str, jobs: Sequence[Job], work: Callable[[Job], Result], processes: int
) -> dict[str, Result]:
    """What each job returned, by its name."""
    results: dict[str, Result] = {}
    if jobs:
        progress.start(what, len(jobs))
        for job, result in each_done(jobs, work, processes):
            results[str(job)] = result
            progress.advance()
        progress.finish(f"{len(jobs)} done")
    return results


@lru_cache(maxsize=2)
def _read(spec: str, cache: Path, task: str) -> Task:
    return read_task(task, BenchmarkSpec.model_validate_json(spec).tasks[task], cache)


def _prepare(job: _TaskJob) -> None:
    prepare(job.task, job.spec.tasks[job.task], job.cache)


def _featurise(job: _RowsJob) -> None:
    spec = job.spec
    task = _read(spec.model_dump_json(), job.cache, job.task)
    if job.map is None:
        predictions(task, maps.opened(spec.model, spec.device, spec.head), job.cache)
        return
    opener = maps.opened if job.map.weights == "pretrained" else maps.random_twin
    maps.rows(task, job.map, opener(spec.model, spec.device, spec.head), job.cache, job.parts or maps.RANKED)


def _map_latent(job: _TaskJob) -> None:
    task = _read(job.spec.model_dump_json(), job.cache, job.task)
    write_latent(task, job.spec, job.folder / "latent" / f"{job.task}.json")


def _run(job: _RunJob) -> str | None:
    """None, or why it failed: one run that cannot be done must not cost the night."""
    try:
        record = run(job.name, job.spec, job.cache)
    except SurveyorError as error:
        return str(error)
    text = json.dumps(record, allow_nan=False) + "\n"
    atomic_write(job.name.path(job.folder), lambda file: file.write(text))
    return None
