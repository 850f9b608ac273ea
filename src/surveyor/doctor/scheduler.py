"""Is the scheduler there that the campaign's engine hands its jobs to?"""

from __future__ import annotations

import shutil
import socket
import subprocess
from urllib.parse import urlsplit

from surveyor.doctor.findings import Verdict, error, not_checked, ok

ANSWER = 20
"""Seconds that a scheduler gets to answer."""
UP = ("idle", "mix", "alloc", "comp")
"""States of nodes that work, or will when they are free."""


def scheduler(engine: object) -> Verdict:
    """The engine answers: `sinfo` lists the partition with a node that is up; a Dask address connects."""
    kind = getattr(engine, "kind", "local")
    if kind == "slurm" or (kind == "parsl" and getattr(engine, "blocks", 0)):
        return slurm(getattr(engine, "partition", None))
    address = getattr(engine, "scheduler", None)
    if kind == "dask" and address:
        return reachable(str(address))
    return not_checked(f"not used: the engine is {kind}")


def slurm(partition: str | None) -> Verdict:
    """`sinfo` answers, and the partition has a node that is up."""
    missing = [name for name in ("sinfo", "sbatch") if shutil.which(name) is None]
    if missing:
        return error(
            f"{' and '.join(missing)} not on PATH",
            "run the campaign on a node that submits to Slurm, or load its module",
        )
    command = [str(shutil.which("sinfo")), "--noheader", "--format=%R|%T|%D"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return error(f"sinfo did not answer within {ANSWER} s", "ask whether the Slurm controller is up")
    if asked.returncode:
        lines = asked.stderr.strip().splitlines() or ["no message"]
        return error(f"sinfo failed: {lines[0][:160]}", "ask whether the Slurm controller is up")
    return partition_verdict(asked.stdout, partition)


def partition_verdict(listing: str, partition: str | None) -> Verdict:
    """A line `partition|state|nodes` whose state is up, in the wanted partition if one is named."""
    rows = [line.strip().split("|") for line in listing.splitlines() if line.count("|") == 2]
    names = sorted({name for name, _, _ in rows})
    if not rows:
        return error("Slurm answers, but lists no partition", "ask for access to a partition")
    if partition is not None and partition not in names:
        return error(f"no partition '{partition}'", "one of " + ", ".join(names))
    wanted = [row for row in rows if partition in (None, row[0])]
    working = sum(int(nodes) for _, state, nodes in wanted if state.startswith(UP))
    if not working:
        states = ", ".join(sorted({state for _, state, _ in wanted}))
        return error(f"no node is up (states: {states})", "wait, or name another partition")
    return ok(f"Slurm answers: {working} nodes up in {partition or ', '.join(names)}")


def reachable(address: str) -> Verdict:
    """A TCP connection to `tcp://host:port` opens."""
    parts = urlsplit(address if "//" in address else f"tcp://{address}")
    try:
        where = (parts.hostname or "", parts.port or 8786)
        with socket.create_connection(where, timeout=ANSWER):
            return ok(f"{address} answers")
    except (OSError, ValueError) as fault:
        return error(
            f"{address} does not answer: {fault}", "start the Dask scheduler, or correct its address"
        )
