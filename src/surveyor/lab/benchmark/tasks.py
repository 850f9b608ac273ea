"""Tasks of a benchmark: which frames may be labelled, and which are never trained on.

The frames of a task are read and checked once, and missing labels of its test computed; every run reads what
that left.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms

from surveyor.errors import ConfigError, StructureError
from surveyor.lab.benchmark.oracle import Oracle
from surveyor.lab.benchmark.schema import TaskSpec
from surveyor.structures import (
    has_labels,
    labels_of,
    read_structures,
    structure_id,
    with_labels,
    write_structures,
)
from surveyor.structures.label_keys import read_labelled
from surveyor.structures.labels import ENERGY_KEY, FORCES_KEY
from surveyor.structures.writing import atomic_write
from surveyor.types import Failure

PARTS = ("pool", "test", "target", "start", "latent")
KEPT = ("reaction", "config_type", "total_charge", "total_spin", ENERGY_KEY)
READY = "task.json"
SHOWN = 60
"""Frames of a kind on the map of the latent space."""


@dataclass(frozen=True, eq=False)
class Task:
    """A task as runs see it: lists of frames, their ids, and who labels them.

    | variable      | meaning                                                                    | unit |
    |---------------|----------------------------------------------------------------------------|------|
    | label_seconds | processor time of one label; None where labels come from a file            | s    |
    """

    name: str
    spec: TaskSpec
    pool: list[Atoms]
    test: list[Atoms]
    target: list[Atoms]
    start: list[Atoms]
    latent: list[Atoms]
    oracle: Oracle
    label_seconds: float | None

    def part(self, name: str) -> list[Atoms]:
        """The frames of one of `PARTS`."""
        frames: list[Atoms] = getattr(self, name)
        return frames

    @cached_property
    def ids(self) -> dict[str, tuple[str, ...]]:
        """Part → id of each frame."""
        return {part: tuple(structure_id(atoms) for atoms in self.part(part)) for part in PARTS}


def prepare(name: str, spec: TaskSpec, cache: Path) -> None:
    """Read and check the frames of a task and write them as runs read them, unless they are there.

    Raises:
        SurveyorError: the data are missing, too small, or not labelled.
    """
    folder = cache / "tasks" / name
    if (folder / READY).is_file():
        return
    calculator = None if spec.labels == "oracle" else spec.labels
    if calculator is None:
        pool = list(read_labelled(spec.pool).structures)
        test = list(read_labelled(spec.test, energy_alone=True).structures)
    else:
        pool, test = _read(spec.pool), _read(spec.test)
    oracle = Oracle(calculator, cache / "labels")
    begin, fresh = time.process_time(), oracle.computed
    parts = {
        "test": _labelled(test, oracle),
        "start": _labelled(_read(spec.start if isinstance(spec.start, Path) else None), oracle),
        "target": _read(spec.target),
        "latent": _read(spec.latent) or _latent(pool, np.random.default_rng(spec.seed)),
    }
    spent, fresh = time.process_time() - begin, oracle.computed - fresh
    parts["pool"] = _candidates(pool, parts, name)
    needed = spec.batch * spec.rounds + (0 if parts["start"] else int(str(spec.start)))
    if len(parts["pool"]) < needed:
        raise ConfigError(
            f"task {name}: {needed} labels to choose from a pool of {len(parts['pool'])}",
            expected="start + batch × rounds labels or more",
            todo="give a larger pool, or fewer rounds",
        )
    for part, members in parts.items():
        write_structures(folder / f"{part}.extxyz", [_tidy(atoms) for atoms in members])
    about = {
        "label_seconds": round(spent / fresh, 4) if fresh else None,
        "frames": {part: len(members) for part, members in parts.items()},
    }
    atomic_write(folder / READY, lambda file: file.write(json.dumps(about, indent=1) + "\n"))


def read_task(name: str, spec: TaskSpec, cache: Path) -> Task:
    """A prepared task."""
    folder = cache / "tasks" / name
    about = json.loads((folder / READY).read_text())
    parts = {
        part: _read(path if (path := folder / f"{part}.extxyz").stat().st_size else None) for part in PARTS
    }
    oracle = Oracle(None if spec.labels == "oracle" else spec.labels, cache / "labels")
    return Task(name, spec, **parts, oracle=oracle, label_seconds=about["label_seconds"])


def _read(path: Path | None) -> list[Atoms]:
    return [] if path is None else list(read_structures(path))


def _latent(pool: Sequence[Atoms], rng: np.random.Generator) -> list[Atoms]:
    """Frames of the reaction that has the most kinds; none where fewer than two kinds are named."""
    if not all("reaction" in atoms.info and "config_type" in atoms.info for atoms in pool):
        return []
    members: dict[str, dict[str, list[Atoms]]] = defaultdict(lambda: defaultdict(list))
    for atoms in pool:
        members[str(atoms.info["reaction"])][str(atoms.info["config_type"])].append(atoms)
    kinds = members[max(sorted(members), key=lambda reaction: len(members[reaction]))]
    chosen = []
    for frames in kinds.values() if len(kinds) > 1 else ():
        chosen += [frames[i] for i in np.sort(rng.permutation(len(frames))[:SHOWN])]
    return chosen


def _labelled(frames: Iterable[Atoms], oracle: Oracle) -> list[Atoms]:
    """The frames with their labels; those that cannot be labelled are left out."""
    found = []
    for number, atoms in enumerate(frames):
        if not oracle.computes or has_labels(atoms):
            if ENERGY_KEY not in atoms.info:
                labels_of(atoms, f"frame {number}")  # raises: says what is missing
            found.append(atoms)
            continue
        labels = oracle(structure_id(atoms), atoms)
        if not isinstance(labels, Failure):
            found.append(with_labels(atoms, labels))
    return found


def _candidates(pool: Iterable[Atoms], parts: dict[str, list[Atoms]], name: str) -> list[Atoms]:
    """Different pool frames, none of which is a test frame; checks that no target is one either."""
    test = {structure_id(atoms) for atoms in parts["test"]}
    leaked = [number for number, atoms in enumerate(parts["target"]) if structure_id(atoms) in test]
    if leaked:
        raise StructureError(
            f"task {name}: target geometry {leaked[0]} is a test frame",
            expected="targets that the errors are not measured on",
            todo="take a coarser path, or geometries of another trajectory",
        )
    seen = set(test)
    kept = []
    for atoms in pool:
        own = structure_id(atoms)
        if own not in seen:
            seen.add(own)
            kept.append(atoms)
    return kept


def _tidy(atoms: Atoms) -> Atoms:
    """A copy that carries names and labels only."""
    copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.info = {key: atoms.info[key] for key in KEPT if key in atoms.info}
    copy.info.setdefault("reaction", "all")
    copy.info.setdefault("config_type", "all")
    if FORCES_KEY in atoms.arrays:
        copy.arrays[FORCES_KEY] = atoms.arrays[FORCES_KEY]
    return copy
