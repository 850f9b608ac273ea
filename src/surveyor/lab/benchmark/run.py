"""One run of a benchmark: a strategy, a learner, a task and a seed → a learning curve."""

from __future__ import annotations

import os
import platform
import time
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from surveyor.acquisition import Featurised
from surveyor.campaign.evaluation import residual_std
from surveyor.lab.benchmark import maps
from surveyor.lab.benchmark.learners import LEARNERS, Learner, Shifted, core_seconds
from surveyor.lab.benchmark.loading import COMMITTEE
from surveyor.lab.benchmark.records import RunName
from surveyor.lab.benchmark.schema import BenchmarkSpec, LearnerSpec, MapSpec, StrategySpec, portable
from surveyor.lab.benchmark.scoring import Scores, Truth, agreement, digits
from surveyor.lab.benchmark.strategies import Chooser, Situation, features_of, seed_of
from surveyor.lab.benchmark.tasks import Task, read_task
from surveyor.potentials import open_potential
from surveyor.structures import with_labels
from surveyor.types import Failure, Potential

SCHEMA = 1
PACKAGES = ("surveyor", "torch", "mace-torch", "e3nn", "numpy", "scipy", "ase", "tblite")
UNCERTAINTY_NOISE = 1e-4


def run(name: RunName, spec: BenchmarkSpec, cache: Path) -> dict[str, Any]:
    """The record of a run: curve, picks, times, settings.

    Args:
        cache: folder with the prepared task, features and trainings.
    """
    scene = _scene(spec.model_dump_json(), cache, name.task)
    task, strategy, learner_spec = scene.task, spec.strategies[name.strategy], spec.learners[name.learner]
    rows = None if strategy.features is None else scene.rows(strategy.features)
    learner: Learner = scene.learner(name.learner)
    choose = Chooser(strategy, task, rows, lambda: scene.shifted.base["pool"], learner)
    looking = 0.0
    labelled = first_labelled(task, name.seed)
    picks = [list(labelled)]
    seconds: dict[str, list[float]] = {"acquisition": [], "labelling": [], "training": []}
    excluded: set[str] = set()
    zero = Scores.of(scene.shifted(labelled, name.seed).test, scene.truth)
    points: list[dict[str, Any]] = [{"labels": 0, **zero.summary()}]
    kinds, reactions = [zero.by(scene.truth.kinds)], [zero.by(scene.truth.reactions)]
    frames: dict[str, Any] = {}
    for number in range(task.spec.rounds + 1):
        if number:
            round_seed = seed_of(name.task, name.seed, number - 1)
            choice = choose(Situation(labelled, frozenset(excluded), task.spec.batch, round_seed))
            seconds["acquisition"].append(digits(choice.seconds + looking))
            found, failed = _label(task, choice.ids)
            labelled, excluded = {**labelled, **found}, excluded | set(failed)
            picks.append(list(found))
            seconds["labelling"].append(digits((task.label_seconds or 0.0) * len(choice.ids)))
        # a committee's first member is the run's own training: ask for all that it must give at once
        learnt = learner(
            labelled,
            seed_of(name.task, name.seed, number),
            pool=strategy.rule == COMMITTEE,
            model=strategy.refresh,
        )
        seconds["training"].append(digits(learnt.seconds))
        if learnt.model is not None and number < task.spec.rounds:
            begin = core_seconds()
            choose = choose.with_rows(scene.rows_of(learnt.model, strategy.features or ""))
            looking = core_seconds() - begin
        scores = Scores.of(learnt.test, scene.truth)
        # cheap beside a training, but not beside a closed form: there at the end only
        watched = learner_spec.kind == "fine-tuning" or number == task.spec.rounds
        stds = scene.uncertainties(labelled, spec) if watched else {}
        points.append(
            {
                "labels": len(labelled),
                **scores.summary(),
                **learnt.notes,
                "uncertainty": {key: agreement(std, scores, name.seed) for key, std in stds.items()},
            }
        )
        kinds.append(scores.by(scene.truth.kinds))
        reactions.append(scores.by(scene.truth.reactions))
        if name.seed == 0 and number == task.spec.rounds:
            frames = _frames(scores, stds)
    return {
        "schema": SCHEMA,
        "learner": name.learner,
        "task": name.task,
        "strategy": name.strategy,
        "seed": name.seed,
        "points": points,
        "by_kind": _columns(kinds),
        "by_reaction": _columns(reactions),
        "picks": picks,
        "failed": sorted(excluded),
        "frames": frames,
        "core_seconds": {**seconds, "features": scene.feature_seconds.get(strategy.features or "", 0.0)},
        "label_seconds": task.label_seconds,
        **_made_with(scene, strategy, learner_spec),
    }


class Scene:
    """What all runs of a task share in a process: frames, potential, rows."""

    def __init__(self, spec: BenchmarkSpec, cache: Path, task: str) -> None:
        self.spec = spec
        self.cache = cache
        self.task = read_task(task, spec.tasks[task], cache)
        self.truth = Truth.of(self.task.test)
        self.potential = self.potential_of("pretrained")
        self.shifted = Shifted(self.task, self.potential, cache)
        self.feature_seconds: dict[str, float] = {}
        self._rows: dict[str, dict[str, Featurised]] = {}
        self._learners: dict[str, Learner] = {}

    def potential_of(self, weights: str) -> Potential:
        """The pretrained potential, or its twin of random weights."""
        opener = maps.opened if weights == "pretrained" else maps.random_twin
        return opener(self.spec.model, self.spec.device, self.spec.head)

    def rows(self, name: str) -> dict[str, Featurised]:
        """Features of the task under a named map."""
        if name not in self._rows:
            wanted: MapSpec = self.spec.maps[name]
            found = maps.rows(self.task, wanted, self.potential_of(wanted.weights), self.cache)
            self._rows[name], self.feature_seconds[name] = found.parts, found.seconds
        return self._rows[name]

    def rows_of(self, model: Path, name: str) -> dict[str, Featurised]:
        """Features of the task under a named map of a potential that was fine-tuned."""
        tuned = open_potential(f"{self.potential.family}:{model}", self.spec.device)
        return maps.fresh_rows(self.task, self.spec.maps[name], tuned, ("pool", "target", "start"))

    def learner(self, name: str) -> Learner:
        """A learner of the benchmark on this task."""
        if name not in self._learners:
            wanted = self.spec.learners[name]
            self._learners[name] = LEARNERS[wanted.kind](self.task, self.potential, self.cache, wanted)
        return self._learners[name]

    def uncertainties(self, labelled: dict[str, Atoms], spec: BenchmarkSpec) -> dict[str, Any]:
        """Residual std of every test frame, per root of its number of rows, for every named map."""
        found = {}
        for name in spec.uncertainty:
            rows = self.rows(name)
            std = residual_std(
                rows["pool"], features_of(labelled, rows), rows["test"], noise=UNCERTAINTY_NOISE
            )
            found[name] = std / np.sqrt(np.bincount(rows["test"].features.owner))
        return found


@lru_cache(maxsize=2)
def _scene(spec: str, cache: Path, task: str) -> Scene:
    return Scene(BenchmarkSpec.model_validate_json(spec), cache, task)


def _made_with(scene: Scene, strategy: StrategySpec, learner: LearnerSpec) -> dict[str, Any]:
    """What a record depends on: settings, potential, versions, machine."""
    features = None if strategy.features is None else scene.spec.maps[strategy.features]
    return {
        "settings": {
            "task": portable(scene.task.spec.model_dump(mode="json")),
            "strategy": strategy.model_dump(mode="json"),
            "features": None if features is None else features.model_dump(mode="json"),
            "learner": learner.model_dump(mode="json", exclude={"strategies", "tasks", "seeds"}),
        },
        "potential": scene.potential.fingerprint,
        "versions": {package: version(package) for package in PACKAGES},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def first_labelled(task: Task, seed: int) -> dict[str, Atoms]:
    """The structures labelled before the first round: the same for every strategy and learner."""
    if task.start:
        return dict(zip(task.ids["start"], task.start, strict=True))
    rng = np.random.default_rng([task.spec.seed, seed])
    labelled: dict[str, Atoms] = {}
    for index in rng.permutation(len(task.pool)):
        found, _ = _label(task, [task.ids["pool"][index]])
        labelled |= found
        if len(labelled) == task.spec.start:
            break
    return labelled


def _label(task: Task, names: list[str]) -> tuple[dict[str, Atoms], list[str]]:
    """Labelled frames by id, and the ids whose label failed."""
    place = {name: i for i, name in enumerate(task.ids["pool"])}
    labelled, failed = {}, []
    for name in names:
        atoms = task.pool[place[name]]
        result = task.oracle(name, atoms)
        if isinstance(result, Failure):
            failed.append(name)
        else:
            labelled[name] = with_labels(atoms, result)
    return labelled, failed


def _columns(points: list[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, list[float | None]]]:
    """Group → quantity → its values along the curve."""
    return {
        group: {key: [point[group][key] for point in points] for key in summary}
        for group, summary in points[0].items()
    }


def _frames(scores: Scores, stds: dict[str, Any]) -> dict[str, Any]:
    """The last point, frame by frame: what the figure of std against error shows."""
    forces = [None if np.isnan(value) else digits(value) for value in scores.force_each]
    return {
        "energy": [digits(value) for value in scores.energy_each],
        "force": forces,
        "std": {name: [digits(value) for value in std] for name, std in stds.items()},
    }
