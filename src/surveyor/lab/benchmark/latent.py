"""Does a latent space tell reactant, transition state and product apart?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from surveyor.lab.benchmark import maps
from surveyor.lab.benchmark.schema import BenchmarkSpec
from surveyor.lab.benchmark.scoring import digits
from surveyor.lab.benchmark.tasks import Task
from surveyor.structures.writing import atomic_write
from surveyor.types import Float64Array

ONE_ROW = ("tangent", "activations", "soap")
"""Kinds of maps with one row per structure."""


def write_latent(task: Task, spec: BenchmarkSpec, path: Path) -> None:
    """Two principal components and the silhouette of one reaction's frames, for every map of `uncertainty`
    that has one row per structure."""
    content: dict[str, object] = {}
    names = [name for name in spec.uncertainty if spec.maps[name].kind in ONE_ROW]
    if task.latent and names:
        kinds = [str(atoms.info["config_type"]) for atoms in task.latent]
        found = {}
        for name in names:
            own = spec.maps[name]
            opener = maps.opened if own.weights == "pretrained" else maps.random_twin
            elements = sorted({int(z) for atoms in task.latent for z in atoms.numbers})
            feature_map = maps.build_map(own, opener(spec.model, spec.device, spec.head), elements)
            values = feature_map(task.latent).values.astype(np.float64)
            found[name] = {
                "silhouette": digits(silhouette(values, kinds)),
                "points": [[digits(x) for x in row] for row in components(values)],
            }
        content = {"reaction": str(task.latent[0].info["reaction"]), "kinds": kinds, "maps": found}
    atomic_write(path, lambda file: file.write(json.dumps(content) + "\n"))


def components(values: Float64Array) -> Float64Array:
    """The first two principal components of the rows, in units of their root mean square, (rows, 2)."""
    centred = values - values.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    scores = left[:, :2] * singular[:2]
    return np.asarray(scores / np.sqrt((centred**2).sum() / len(centred)))


def silhouette(values: Float64Array, names: list[str]) -> float:
    """Mean of (b − a) / max(a, b): 1 for tight, far-apart groups, 0 for groups that overlap.

    | symbol | meaning                                                            |
    |--------|--------------------------------------------------------------------|
    | a      | mean distance of a row to the others of its group                  |
    | b      | mean distance to the rows of the nearest other group               |

    Source: Rousseeuw, J. Comput. Appl. Math. 20 (1987) 53.
    """
    distance = cdist(values, values)
    groups = np.array(names)
    labels = np.unique(groups)
    mean = np.stack([distance[:, groups == label].sum(axis=1) for label in labels], axis=1)
    sizes = np.array([(groups == label).sum() for label in labels])
    own = np.searchsorted(labels, groups)
    rows = np.arange(len(groups))
    inside = mean[rows, own] / np.maximum(sizes[own] - 1, 1)
    others = mean / sizes
    others[rows, own] = np.inf
    nearest = others.min(axis=1)
    larger = np.maximum(inside, nearest)
    scores = np.divide(nearest - inside, larger, out=np.zeros_like(larger), where=larger > 0)
    return float(np.where(sizes[own] > 1, scores, 0.0).mean())
