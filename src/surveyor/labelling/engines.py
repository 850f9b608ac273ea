"""Where labels are computed: every engine opens a `concurrent.futures.Executor`; nothing else is asked of it.

What survives the death of the submitting process differs, and the spool makes up for it (see
`docs/scaling-up.md`): a job that runs ends and leaves its result there, whatever the engine; a job that waits
in a queue is submitted again (local, Parsl, Dask) or found again (Slurm).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from surveyor.errors import LabellingError
from surveyor.labelling.worker import Job, close_workers, import_path, leaving
from surveyor.settings import Settings

INTERCHANGE = "interchange.txt"
"""Host and process id of Parsl's interchange, which outlives a killed submitter."""


class Engine(Protocol):
    """Opens an executor; `workers` jobs are handed to it at a time, each of `cores` threads."""

    @property
    def workers(self) -> int: ...
    @property
    def cores(self) -> int: ...
    def open(self, spool: Path) -> contextlib.AbstractContextManager[Executor]: ...


class LocalEngine(Settings):
    """Worker processes of this machine, one for each label at a time.

    | field     | meaning                                              |
    |-----------|------------------------------------------------------|
    | processes | labels at a time; None: as many as the cores allow   |
    | cores     | threads of a label                                   |

    The executor's threads wait for them, so one that dies or hangs takes no other along.
    """

    kind: Literal["local"] = "local"
    processes: PositiveInt | None = None
    cores: PositiveInt = 1

    @property
    def workers(self) -> int:
        return self.processes or max(1, (os.cpu_count() or 1) // self.cores)

    @contextlib.contextmanager
    def open(self, spool: Path) -> Iterator[Executor]:  # noqa: ARG002
        leaving.clear()
        executor = ThreadPoolExecutor(self.workers, thread_name_prefix="label")
        try:
            yield executor
        finally:
            leaving.set()  # jobs in hand go on without us
            executor.shutdown(wait=True, cancel_futures=True)
            close_workers()


class SlurmEngine(Settings):
    """One Slurm job per label, through executorlib, which keeps each job's number in a file.

    | field      | meaning                                              | unit |
    |------------|------------------------------------------------------|------|
    | workers    | jobs in Slurm's queue at a time                      |      |
    | cores      | cores of a job                                       |      |
    | partition, account | as sbatch takes them                         |      |
    | hours      | time limit of a job                                  | h    |
    | memory     | memory of a job                                      | GB   |
    | options    | more options of sbatch, such as `--qos=long`         |      |
    | setup      | shell lines before the job, such as `module load …`  |      |
    """

    kind: Literal["slurm"] = "slurm"
    workers: PositiveInt = 20
    cores: PositiveInt = 1
    partition: str | None = None
    account: str | None = None
    hours: PositiveFloat | None = None
    memory: PositiveFloat | None = None
    options: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    @contextlib.contextmanager
    def open(self, spool: Path) -> Iterator[Executor]:
        executorlib = _load("executorlib", "slurm")
        _load("pysqa", "slurm")
        if shutil.which("sbatch") is None:
            raise LabellingError(
                "engine slurm: there is no sbatch on this machine",
                expected="a machine that may submit Slurm jobs",
                todo="run the command on the cluster's login node, or choose another engine",
            )
        cache = spool / "slurm"
        cache.mkdir(parents=True, exist_ok=True)
        executor = executorlib.SlurmClusterExecutor(
            cache_directory=str(cache),
            resource_dict={"submission_template": self.script()},
            refresh_rate=0.2,
            wait=False,
        )
        try:
            yield _ByName(executor, cache)
        except BaseException:
            # Jobs that wait or run stay with Slurm: the next run finds them.
            executor.shutdown(wait=False, cancel_futures=False)
            raise
        executor.shutdown(wait=False, cancel_futures=False)
        shutil.rmtree(cache, ignore_errors=True)

    def script(self) -> str:
        """The job script; executorlib fills in name, folder and command."""
        settings = [
            "--job-name=surveyor-label",
            "--output=job.log",
            "--chdir={{working_directory}}",
            "--ntasks=1",
            f"--cpus-per-task={self.cores}",
            *([f"--partition={self.partition}"] if self.partition else []),
            *([f"--account={self.account}"] if self.account else []),
            *([f"--time={max(1, round(60 * self.hours))}"] if self.hours else []),
            *([f"--mem={round(1024 * self.memory)}M"] if self.memory else []),
            *self.options,
        ]
        lines = ["#!/bin/bash", *(f"#SBATCH {setting}" for setting in settings), *self.setup, "{{command}}"]
        return "\n".join(lines) + "\n"


class _ByName(Executor):
    """Names a job after its structure, so that executorlib recognises it after a restart."""

    def __init__(self, inner: Any, cache: Path) -> None:
        self._inner, self._cache = inner, cache

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        (job,) = args
        assert isinstance(job, Job)  # noqa: S101
        # Results come through the spool; an old output here is of an attempt that was collected, or failed.
        (self._cache / f"{job.name}_o.h5").unlink(missing_ok=True)
        future: Future[Any] = self._inner.submit(fn, job, **kwargs, resource_dict={"cache_key": job.name})
        return future


class ParslEngine(Settings):
    """Parsl's high-throughput executor, on this machine or in blocks of a Slurm allocation.

    | field     | meaning                                                    | unit |
    |-----------|------------------------------------------------------------|------|
    | workers   | labels at a time: on this machine, or in each Slurm block  |      |
    | cores     | cores of a label                                           |      |
    | blocks    | Slurm jobs that hold workers; 0: this machine              |      |
    | partition, account, hours, setup | as in `SlurmEngine`, of a block     |      |
    """

    kind: Literal["parsl"] = "parsl"
    workers: PositiveInt = 4
    cores: PositiveInt = 1
    blocks: NonNegativeInt = 0
    partition: str | None = None
    account: str | None = None
    hours: PositiveFloat = 24.0
    setup: tuple[str, ...] = ()

    @contextlib.contextmanager
    def open(self, spool: Path) -> Iterator[Executor]:
        _load("parsl", "parsl")
        from parsl.concurrent import ParslPoolExecutor
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor

        folder = spool / "parsl"
        _end_orphan(folder / INTERCHANGE)
        local = self.blocks == 0
        executor = HighThroughputExecutor(
            label="labels",
            # Nothing listens to other machines unless workers run there; then the traffic is encrypted.
            address="127.0.0.1" if local else None,
            loopback_address="127.0.0.1",
            encrypted=not local,
            max_workers_per_node=self.workers,
            cores_per_worker=self.cores if not local else 1e-3,
            provider=self._provider(),
            heartbeat_period=5,
            heartbeat_threshold=30,
        )
        config = Config(
            executors=[executor], run_dir=str(folder), strategy="none", usage_tracking=0, retries=0,
            initialize_logging=False,
        )  # fmt: skip
        before = os.environ.get("PATH", os.defpath)
        os.environ["PATH"] = _with_scripts(before)
        try:
            with ParslPoolExecutor(config) as pool:
                process = executor.interchange_proc
                if process is not None:
                    (folder / INTERCHANGE).write_text(f"{socket.gethostname()} {process.pid}")
                yield pool
        finally:
            os.environ["PATH"] = before
        shutil.rmtree(folder, ignore_errors=True)

    def _provider(self) -> Any:
        from parsl.providers import LocalProvider, SlurmProvider

        # Workers import what this process can import.
        setup = [
            f"export PYTHONPATH={shlex.quote(os.pathsep.join(import_path()))}",
            f'export PATH="{_with_scripts("$PATH")}"',
            *self.setup,
        ]
        if self.blocks == 0:
            return LocalProvider(init_blocks=1, max_blocks=1, worker_init="\n".join(setup))
        minutes = max(1, round(60 * self.hours))
        return SlurmProvider(
            partition=self.partition,
            account=self.account,
            init_blocks=self.blocks,
            max_blocks=self.blocks,
            walltime=f"{minutes // 60:02d}:{minutes % 60:02d}:00",
            cores_per_node=self.workers * self.cores,
            worker_init="\n".join(setup),
            exclusive=False,
        )


class DaskEngine(Settings):
    """dask.distributed: a running cluster by the address of its scheduler, or one of this machine.

    | field     | meaning                                                         |
    |-----------|-----------------------------------------------------------------|
    | workers   | labels at a time                                                |
    | cores     | cores of a label                                                |
    | scheduler | address, such as `tcp://head:8786`; None starts a local cluster |
    """

    kind: Literal["dask"] = "dask"
    workers: PositiveInt = 4
    cores: PositiveInt = 1
    scheduler: str | None = None

    @contextlib.contextmanager
    def open(self, spool: Path) -> Iterator[Executor]:
        distributed = _load("distributed", "dask")
        import dask

        with contextlib.ExitStack() as stack:
            # A busy machine starts a killed worker again slowly; a local cluster gives it up after this time.
            patient = {
                "distributed.deploy.lost-worker-timeout": "10 minutes",
                "distributed.comm.timeouts.connect": "2 minutes",
            }
            stack.enter_context(dask.config.set(patient))
            address: Any = self.scheduler
            if address is None:
                address = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=self.workers,
                        threads_per_worker=1,
                        host="127.0.0.1",
                        dashboard_address=None,
                        local_directory=str(spool / "dask"),
                        silence_logs=50,
                    )
                )
                stack.callback(shutil.rmtree, spool / "dask", ignore_errors=True)
            try:
                client = stack.enter_context(distributed.Client(address, timeout=30))
            except OSError as error:
                raise LabellingError(
                    f"engine dask: no scheduler answers at {address}: {error}",
                    expected="the address of a running dask scheduler",
                    todo="start one (dask scheduler), or leave the address out for a local cluster",
                ) from error
            # A label is never the same as another one, and a lost job is this side's to judge.
            executor = client.get_executor(pure=False, retries=0)
            try:
                yield executor
            finally:
                executor.shutdown(wait=False)


AnyEngine = Annotated[LocalEngine | SlurmEngine | ParslEngine | DaskEngine, Field(discriminator="kind")]


def _end_orphan(note: Path) -> None:
    """End the interchange of a run whose process was killed: it would wait for that process for ever.

    Its pools end when they miss its heartbeat. The workers below them finish the job in hand, as always.
    """
    import psutil

    with contextlib.suppress(OSError, ValueError, psutil.Error):
        host, pid = note.read_text().split()
        process = psutil.Process(int(pid))
        if host == socket.gethostname() and "interchange" in " ".join(process.cmdline()):
            process.terminate()


def _with_scripts(path: str) -> str:
    """A search path with the programs of this environment, which need not be activated."""
    return f"{Path(sys.executable).parent}{os.pathsep}{path}"


def _load(package: str, extra: str) -> Any:
    """The module of an optional package.

    Raises:
        LabellingError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise LabellingError(
            f"engine {extra} needs the package {package}, which cannot be imported: {error}",
            expected=f"the extra surveyor[{extra}]",
            todo=f"pip install 'surveyor[{extra}]'",
        ) from error
