"""Feature maps by specification, and the rows of a task, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.linalg import eigh

from surveyor.acquisition import Featurised, featurise
from surveyor.features.registry import Given, make_features, takes
from surveyor.lab.benchmark.cached import cached
from surveyor.lab.benchmark.schema import MapSpec
from surveyor.lab.benchmark.tasks import Task
from surveyor.potentials import open_potential
from surveyor.potentials.base import Redrawable, require
from surveyor.structures.writing import whole_file
from surveyor.types import Features, Float64Array, FloatArray, Potential, StorableFeatureMap

RANDOM_SEED = 0
"""Of the weights of the randomly initialised potential."""

OF_ITS_OWN = ("normalise", "pool", "probes", "energy_noise", "force_noise")
"""Keys of a specification that some feature maps have a parameter for."""

RANKED = ("pool", "test", "target", "start")
"""Parts of a task that a strategy's feature map sees."""


@lru_cache(maxsize=2)
def opened(model: str, device: str | None, head: str | None) -> Potential:
    """The potential of a benchmark, opened once a process."""
    return open_potential(model, device, head=head)


@lru_cache(maxsize=2)
def random_twin(model: str, device: str | None, head: str | None) -> Potential:
    """Its architecture with random weights."""
    twin = require(opened(model, device, head), Redrawable, "the twin of random weights")
    return twin.with_random_weights(RANDOM_SEED)


def build_map(spec: MapSpec, potential: Potential, elements: Sequence[int]) -> StorableFeatureMap:
    """The feature map that a specification describes.

    Args:
        potential: with the weights that the specification asks for.
        elements: atomic numbers that occur in the task.
    """
    given = Given(potential, elements, spec.seed, spec.parameters, spec.dim, spec.layers)
    own = {name: getattr(spec, name) for name in OF_ITS_OWN if takes(spec.kind, name)}
    return make_features(spec.kind, given, {name: value for name, value in own.items() if value is not None})


def rows_path(task: Task, spec: MapSpec, fingerprint: str, parts: Sequence[str], cache: Path) -> Path:
    """Where the rows lie: a name made of all that they depend on; tasks of the same structures share them."""
    content = [spec.model_dump(mode="json"), fingerprint, [[part, task.ids[part]] for part in parts]]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
    return cache / "features" / f"{spec.kind}-{digest}.npz"


@dataclass(frozen=True, eq=False)
class TaskRows:
    """Part of a task → its rows; and the processor time that all of them took, in s."""

    parts: dict[str, Featurised]
    seconds: float


def rows(
    task: Task, spec: MapSpec, potential: Potential, cache: Path, parts: Sequence[str] = RANKED
) -> TaskRows:
    """Rows of the parts of a task: read where they are, computed and kept where they are not.

    Args:
        potential: with the weights that the specification asks for.
    """
    path = rows_path(task, spec, potential.fingerprint, parts, cache)
    cached(path, lambda: _compute(task, spec, potential, parts, path))
    with np.load(path) as stored:
        whole = Features(stored["values"], stored["owner"].astype(np.intp), int(stored["n_structures"]))
        seconds = float(stored["seconds"])
    return TaskRows(_split(task, whole, parts), seconds)


def fresh_rows(
    task: Task, spec: MapSpec, potential: Potential, parts: Sequence[str]
) -> dict[str, Featurised]:
    """Rows of a potential that lasts for one round; nothing is kept."""
    return _split(task, _featurise(task, spec, potential, parts), parts)


def _split(task: Task, whole: Features, parts: Sequence[str]) -> dict[str, Featurised]:
    ends = np.cumsum([0, *(len(task.part(part)) for part in parts)])
    return {
        part: Featurised(whole.take(np.arange(ends[i], ends[i + 1])), task.ids[part])
        for i, part in enumerate(parts)
    }


def _featurise(task: Task, spec: MapSpec, potential: Potential, parts: Sequence[str]) -> Features:
    structures = [atoms for part in parts for atoms in task.part(part)]
    elements = sorted({int(z) for atoms in structures for z in atoms.numbers})
    found = featurise(structures, build_map(spec, potential, elements)).features
    if found.values.shape[1] <= spec.widest:
        return found
    first = np.flatnonzero(found.owner < len(task.part(parts[0])))
    narrow = found.values @ principal_axes(found.values[first], spec.widest)
    return Features(narrow.astype(np.float32), found.owner, found.n_structures)


def _compute(task: Task, spec: MapSpec, potential: Potential, parts: Sequence[str], path: Path) -> None:
    begin = time.process_time()
    found = _featurise(task, spec, potential, parts)
    content: Mapping[str, object] = {
        "values": found.values,
        "owner": found.owner,
        "n_structures": np.array(found.n_structures),
        "seconds": np.array(time.process_time() - begin),
    }
    with whole_file(path) as file:
        np.savez(file, **content)  # type: ignore[arg-type]


def principal_axes(values: FloatArray, count: int) -> Float64Array:
    """The strongest right singular vectors of X, (dim, ≤ count): inner products of rows of X survive best.

    From the eigenvectors of XXᵀ, which is smaller than XᵀX where there are fewer rows than columns.

    | symbol | variable | shape       |
    |--------|----------|-------------|
    | X      | values   | (rows, dim) |
    """
    X = np.asarray(values, dtype=np.float64)
    n, dim = X.shape
    kept = min(count, n, dim)
    square, vectors = eigh(
        X @ X.T if n < dim else X.T @ X, subset_by_index=(min(n, dim) - kept, min(n, dim) - 1)
    )
    axes = X.T @ (vectors / np.sqrt(np.maximum(square, np.finfo(np.float64).tiny))) if n < dim else vectors
    real = square > 1e-12 * max(float(square.max()), 0.0)
    return np.asarray(axes[:, real][:, ::-1], dtype=np.float64)
