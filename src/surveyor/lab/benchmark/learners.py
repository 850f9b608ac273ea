"""Two learners with one face: labelled frames in, predictions for the test frames out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from surveyor.campaign.validation import split_validation
from surveyor.features.probes import projections
from surveyor.lab.benchmark import maps
from surveyor.lab.benchmark.cached import cached
from surveyor.lab.benchmark.schema import LearnerSpec, MapSpec
from surveyor.lab.benchmark.tasks import Task
from surveyor.linearised import Rows, fit, shift_references
from surveyor.potentials.base import Trainable, require
from surveyor.structures.composition import counts, shares
from surveyor.structures.labels import labels_of
from surveyor.structures.writing import whole_file
from surveyor.types import Features, Float64Array, Labels, Potential


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a learner makes of the labels.

    | variable | meaning                                                                         | unit |
    |----------|---------------------------------------------------------------------------------|------|
    | test     | prediction for every test frame                                                 |      |
    | pool     | prediction for every pool frame; None unless the learner was asked for it       |      |
    | model    | file of the trained potential; None unless the learner was asked for it         |      |
    | seconds  | processor time of the training, wherever and whenever it was done               | s    |
    | notes    | what the learner chose                                                          |      |
    """

    test: list[Labels]
    seconds: float
    pool: list[Labels] | None = None
    model: Path | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class Learner(Protocol):
    """Labelled frames by id → predictions."""

    def __call__(
        self, labelled: Mapping[str, Atoms], seed: int, *, pool: bool = False, model: bool = False
    ) -> Learnt: ...


def core_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    return float(sum(os.times()[:4]))


def predictions(
    task: Task, potential: Potential, cache: Path, parts: Sequence[str] = ("pool", "start", "test")
) -> dict[str, list[Labels]]:
    """The pretrained potential's own predictions, computed once."""
    content = json.dumps([potential.fingerprint, [task.ids[part] for part in parts]])
    path = cache / "features" / f"predictions-{hashlib.sha256(content.encode()).hexdigest()[:20]}.npz"

    def work() -> None:
        save_labels(path, [label for part in parts for label in potential.predict(task.part(part))], 0.0)

    cached(path, work)
    found, _ = load_labels(path)
    ends = np.cumsum([0, *(len(task.part(part)) for part in parts)])
    return {part: found[ends[i] : ends[i + 1]] for i, part in enumerate(parts)}


def save_labels(path: Path, labels: Sequence[Labels], seconds: float) -> None:
    """Predictions and the time that they took, as a whole or not at all."""
    content = {
        "energies": np.array([label.energy for label in labels]),
        "forces": np.concatenate([label.forces for label in labels] or [np.zeros((0, 3))]).astype(np.float32),
        "sizes": np.array([len(label.forces) for label in labels], dtype=np.intp),
        "seconds": np.array(seconds),
    }
    with whole_file(path) as file:
        np.savez(file, **content)  # type: ignore[arg-type]


def load_labels(path: Path) -> tuple[list[Labels], float]:
    """What `save_labels` wrote."""
    with np.load(path) as stored:
        forces = np.split(stored["forces"].astype(np.float64), np.cumsum(stored["sizes"])[:-1])
        return [Labels(float(e), f) for e, f in zip(stored["energies"], forces, strict=False)], float(
            stored["seconds"]
        )


class Shifted:
    """The zero-label line: the pretrained potential, its reference energies re-fitted to the labels."""

    def __init__(self, task: Task, potential: Potential, cache: Path) -> None:
        self.task = task
        self.elements = potential.elements
        self.base = predictions(task, potential, cache)
        self.known = {
            name: label
            for part in ("pool", "start")
            for name, label in zip(task.ids[part], self.base[part], strict=True)
        }

    def residuals(self, labelled: Mapping[str, Atoms]) -> Float64Array:
        """(E_ref − E) / n of every labelled structure, eV/atom."""
        return np.array(
            [(labels_of(a).energy - self.known[name].energy) / len(a) for name, a in labelled.items()]
        )

    def __call__(self, labelled: Mapping[str, Atoms], seed: int) -> Learnt:  # noqa: ARG002
        composition = shares(list(labelled.values()), self.elements)
        shifts = shift_references(composition, self.residuals(labelled))
        constant = counts(self.task.test, self.elements) @ shifts
        return Learnt(
            [Labels(b.energy + float(c), b.forces) for b, c in zip(self.base["test"], constant, strict=True)],
            0.0,
        )


class LinearisedLearner:
    """`linearised.fit` on the tangent rows of the labelled frames; see there."""

    def __init__(self, task: Task, potential: Potential, cache: Path, spec: LearnerSpec) -> None:
        self.task = task
        self.spec = spec
        self.shifted = Shifted(task, potential, cache)
        self._potential = potential
        self._cache = cache

    @staticmethod
    def maps(spec: LearnerSpec) -> list[tuple[MapSpec, tuple[str, ...]]]:
        """The feature rows that the learner needs: energies, labelled forces, forces of the test."""
        shared: dict[str, Any] = {
            "parameters": spec.parameters,
            "dim": spec.dim,
            "widest": max(spec.dim, 1024),
        }
        energies = MapSpec(kind="tangent", normalise="none", **shared)
        wanted: list[tuple[MapSpec, tuple[str, ...]]] = [(energies, ("pool", "start", "test"))]
        if spec.forces:
            wanted.append((MapSpec(kind="force-tangent", probes=spec.probes, **shared), ("pool", "start")))
        wanted.append((MapSpec(kind="force-tangent", probes="all", **shared), ("test",)))
        return wanted

    @cached_property
    def _rows(self) -> list[dict[str, Features]]:
        found = [
            maps.rows(self.task, spec, self._potential, self._cache, parts)
            for spec, parts in self.maps(self.spec)
        ]
        return [{part: own.features for part, own in each.parts.items()} for each in found]

    @cached_property
    def _place(self) -> dict[str, tuple[str, int]]:
        return {name: (part, i) for part in ("start", "pool") for i, name in enumerate(self.task.ids[part])}

    def _labelled_rows(self, labelled: Mapping[str, Atoms]) -> Rows:
        structures = list(labelled.values())
        sizes = np.array([len(a) for a in structures], dtype=np.float64)
        places = [self._place[name] for name in labelled]
        per = sizes if self.spec.residual == "atoms" else np.ones(len(sizes))
        energy = Features.concatenate([self._rows[0][part].take([i]) for part, i in places])
        owner = np.zeros(0, dtype=np.intp)
        values, targets = np.zeros((0, self.spec.dim)), np.zeros(0)
        if self.spec.forces:
            forces = Features.concatenate([self._rows[1][part].take([i]) for part, i in places])
            owner, values = forces.owner, forces.values.astype(np.float64)
            off = [
                labels_of(atoms).forces - self.shifted.known[name].forces for name, atoms in labelled.items()
            ]
            targets = projections(off, self.spec.probes, 0)
        return Rows(
            energy=energy.values.astype(np.float64) / per[:, None],
            energy_residual=self.shifted.residuals(labelled) * sizes / per,
            composition=counts(structures, self.shifted.elements) / per[:, None],
            forces=values,
            force_residual=targets,
            owner=owner,
        )

    def __call__(
        self,
        labelled: Mapping[str, Atoms],
        seed: int,  # noqa: ARG002
        *,
        pool: bool = False,  # noqa: ARG002
        model: bool = False,  # noqa: ARG002
    ) -> Learnt:
        _ = self._rows
        begin = core_seconds()
        found = fit(self._labelled_rows(labelled), choose=self.spec.choose, noise=self.spec.noise)
        test = self.task.test
        energies = (
            self._rows[0]["test"].values @ found.weights + counts(test, self.shifted.elements) @ found.shifts
        )
        flat = self._rows[-1]["test"].values @ found.weights
        forces = np.split(flat.reshape(-1, 3), np.cumsum([len(a) for a in test])[:-1])
        result = [
            Labels(base.energy + float(energy), base.forces + force)
            for base, energy, force in zip(self.shifted.base["test"], energies, forces, strict=True)
        ]
        notes = {"noise": found.noise_share, "energy_weight": found.energy_weight}
        return Learnt(result, core_seconds() - begin, notes=notes)


class FineTuningLearner:
    """The potential's own trainer from the pretrained weights; a training that was done before is read back.

    What a training gives depends on potential, settings, labelled frames and seed only, so that runs share
    their first training, and a run that was killed goes on behind its last whole one.
    """

    def __init__(self, task: Task, potential: Potential, cache: Path, spec: LearnerSpec) -> None:
        self.task = task
        self.potential = potential
        self.training = spec.training
        self._folder = cache / "trainings"

    def path(self, labelled: Mapping[str, Atoms], seed: int, pool: bool, model: bool = False) -> Path:
        """Where the predictions of a training lie, and with another ending its potential."""
        settings = self.training.model_dump(mode="json", exclude={"threads"})
        content = [self.potential.fingerprint, settings, list(labelled), seed, pool]
        content += [self.task.ids["test"], self.task.ids["pool"] if pool else None]
        content += ["model"] if model else []
        return self._folder / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]}.npz"

    def __call__(
        self, labelled: Mapping[str, Atoms], seed: int, *, pool: bool = False, model: bool = False
    ) -> Learnt:
        path = self.path(labelled, seed, pool, model)
        kept = path.with_suffix(".model") if model else None
        cached(path, lambda: self._train(labelled, seed, pool, path, kept))
        found, seconds = load_labels(path)
        n = len(self.task.test)
        return Learnt(found[:n], seconds, pool=found[n:] if pool else None, model=kept)

    def _train(
        self, labelled: Mapping[str, Atoms], seed: int, pool: bool, path: Path, kept: Path | None
    ) -> None:
        trainable = require(self.potential, Trainable, "a learner that trains")
        trainer = trainable.trainer(self.training)
        train, valid = split_validation(labelled, self.training.valid_fraction, seed)
        workdir = self._folder / f"{path.stem}.work"
        begin = core_seconds()
        tuned = trainer(self.potential, train, valid, seed=seed, workdir=workdir)
        shutil.rmtree(workdir, ignore_errors=True)
        test = tuned.predict(self.task.test)
        seconds = core_seconds() - begin
        if kept is not None:
            tuned.save(kept)
        asked = tuned.predict(self.task.pool) if pool else []
        save_labels(path, [*test, *asked], seconds)


MakeLearner = Callable[[Task, Potential, Path, LearnerSpec], Learner]
LEARNERS: dict[str, MakeLearner] = {"linearised": LinearisedLearner, "fine-tuning": FineTuningLearner}
