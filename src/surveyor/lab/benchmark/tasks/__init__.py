"""Tasks of a benchmark: which frames may be labelled, and which are never trained on."""

from surveyor.lab.benchmark.tasks.kinds import KINDS, Kind
from surveyor.lab.benchmark.tasks.prepared import Task, prepare, read_task

__all__ = ["KINDS", "Kind", "Task", "prepare", "read_task"]
