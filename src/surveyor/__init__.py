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
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surveyor import calibration as calibration
    from surveyor import campaign as campaign
    from surveyor import errors as errors
    from surveyor import features as features
    from surveyor import labelling as labelling
    from surveyor import metrics as metrics
    from surveyor import posterior as posterior
    from surveyor import potentials as potentials
    from surveyor import selection as selection
    from surveyor import structures as structures
    from surveyor import testing as testing
    from surveyor import training as training
    from surveyor import types as types
    from surveyor.campaign import Campaign, run
    from surveyor.evaluation import evaluate
    from surveyor.features.embedding import embed
    from surveyor.learner.potential import TangentPotential
    from surveyor.picking import select
    from surveyor.posterior import Posterior
    from surveyor.potentials import open_potential
    from surveyor.structures import read_structures, structure_id, write_structures

__version__ = "0.1.0"
__all__ = [
    "Campaign",
    "Posterior",
    "TangentPotential",
    "embed",
    "evaluate",
    "open_potential",
    "read_structures",
    "run",
    "select",
    "structure_id",
    "write_structures",
]

# Names are looked up when they are first used, so that `import surveyor` is instant: torch and mace load when
# a potential is opened.
_HOMES = {
    "Campaign": "surveyor.campaign",
    "Posterior": "surveyor.posterior",
    "TangentPotential": "surveyor.learner.potential",
    "embed": "surveyor.features.embedding",
    "evaluate": "surveyor.evaluation",
    "open_potential": "surveyor.potentials",
    "read_structures": "surveyor.structures",
    "run": "surveyor.campaign",
    "select": "surveyor.picking",
    "structure_id": "surveyor.structures",
    "write_structures": "surveyor.structures",
}
# What belongs to the library; other modules can be reached as well, and are nobody's to rely on.
_MODULES = (
    "calibration", "campaign", "errors", "features", "labelling", "metrics", "posterior", "potentials",
    "selection", "structures", "testing", "training", "types",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'surveyor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
