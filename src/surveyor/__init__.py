"""Surveyor: which structures to label next, decided by one pretrained interatomic potential.

import surveyor

potential = surveyor.open_potential("builtin")
picks = surveyor.select("pool.extxyz", labelled=None, model=potential, n=20)
"""

from __future__ import annotations

import sys

if sys.argv[:1] == ["-m"] and "surveyor.cli" in sys.orig_argv and not sys.flags.safe_path:
    del sys.path[0]  # the current folder: data may lie there, and a numpy.py among them

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surveyor.evaluation import evaluate
    from surveyor.picking import select
    from surveyor.potentials import open_potential
    from surveyor.structures import read_structures, structure_id, write_structures

__version__ = "0.1.0"
__all__ = ["evaluate", "open_potential", "read_structures", "select", "structure_id", "write_structures"]

# Names are looked up when they are first used, so that `import surveyor` is instant: torch and mace load when
# a potential is opened.
_HOMES = {
    "evaluate": "surveyor.evaluation",
    "open_potential": "surveyor.potentials",
    "read_structures": "surveyor.structures",
    "select": "surveyor.picking",
    "structure_id": "surveyor.structures",
    "write_structures": "surveyor.structures",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'surveyor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
