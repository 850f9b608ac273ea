"""The grid of a benchmark, and its results folder: what is to be done, and what is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from surveyor.errors import ConfigError
from surveyor.lab.benchmark.learners import LinearisedLearner
from surveyor.lab.benchmark.loading import COMMITTEE, load_benchmark
from surveyor.lab.benchmark.records import RunName
from surveyor.lab.benchmark.schema import BenchmarkSpec, LearnerSpec, MapSpec, portable
from surveyor.specs import parse_yaml
from surveyor.structures.writing import atomic_write

RESOLVED = "benchmark.yaml"
STATE = "state.json"
CACHE = "cache"
FREE = ("report", "device")
"""Keys that may change: they do not say what a run is."""

GROWS = ("tasks", "strategies", "learners", "maps")
"""Mappings that may gain entries; those that are there stay as they are."""


def plan(spec: BenchmarkSpec) -> list[RunName]:
    """All runs, seed by seed, so that a part of the grid is a balanced part.

    Raises:
        ConfigError: a committee is asked of a learner that trains no potentials.
    """
    seeds = max(learner.seeds for learner in spec.learners.values())
    return [
        RunName(name, task, strategy, seed)
        for seed in range(seeds)
        for name, learner in spec.learners.items()
        if seed < learner.seeds
        for task in learner.tasks or spec.tasks
        for strategy in strategies_of(name, learner, spec)
        if spec.strategies[strategy].target == "pool" or spec.tasks[task].target is not None
    ]


def strategies_of(name: str, learner: LearnerSpec, spec: BenchmarkSpec) -> list[str]:
    """The strategies that a learner runs: those it names, or all that it can."""
    possible = [
        key
        for key, strategy in spec.strategies.items()
        if learner.kind != "linearised" or not (strategy.rule == COMMITTEE or strategy.refresh)
    ]
    for wanted in learner.strategies or ():
        if wanted not in possible:
            raise ConfigError(
                f"learners: {name}: the strategy {wanted!r} needs trained potentials",
                expected="a learner of the kind fine-tuning",
            )
    return list(learner.strategies or possible)


def maps_needed(
    spec: BenchmarkSpec, runs: list[RunName]
) -> list[tuple[str, MapSpec, tuple[str, ...] | None]]:
    """Task, map and parts (None: those of a strategy) of the rows that these runs read, each once."""
    wanted: dict[str, tuple[str, MapSpec, tuple[str, ...] | None]] = {}

    def add(task: str, own: MapSpec, parts: tuple[str, ...] | None) -> None:
        wanted[f"{task} {own.model_dump_json()} {parts}"] = (task, own, parts)

    for name in runs:
        features = spec.strategies[name.strategy].features
        for key in (*spec.uncertainty, *([features] if features else [])):
            add(name.task, spec.maps[key], None)
        learner = spec.learners[name.learner]
        if learner.kind == "linearised":
            for own, parts in LinearisedLearner.maps(learner):
                add(name.task, own, parts)
    return list(wanted.values())


def open_results(spec: BenchmarkSpec, fingerprint: str, folder: Path) -> None:
    """Claim a results folder, or check that it is of this benchmark.

    Tasks, strategies, learners, maps and seeds may be added to a benchmark that has begun; what has begun
    must stay what it was.

    Raises:
        ConfigError: a setting changed, or the potential is another one.
    """
    text = yaml.safe_dump(portable(spec.model_dump(mode="json")), sort_keys=False, allow_unicode=True)
    resolved, state = folder / RESOLVED, folder / STATE
    if resolved.is_file():
        # read as a file of today: a key that has come since has its default
        before = portable(load_benchmark(resolved).model_dump(mode="json"))
        change = changed(before, parse_yaml(text, str(resolved)))
        if change is not None:
            key, old, new = change
            raise ConfigError(
                f"the results in {folder} were made with {key}: {old!r}, the file now says {new!r}",
                expected="the same settings; tasks, strategies, learners, maps and seeds may be added",
                todo="restore the setting, or write to another folder with -o",
            )
    if state.is_file():
        then = json.loads(state.read_text())["potential"]
        if then != fingerprint:
            raise ConfigError(
                f"{folder} was made with the potential {then[:10]}, now it is {fingerprint[:10]}",
                expected="one pretrained potential a benchmark",
                todo="restore the potential, or write to another folder with -o",
            )
    atomic_write(resolved, lambda file: file.write(text))
    atomic_write(state, lambda file: file.write(json.dumps({"schema": 1, "potential": fingerprint}) + "\n"))


def changed(before: dict[str, Any], now: dict[str, Any], place: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs and may not: its key, its old value and its new one."""
    for key, old in before.items():
        path = f"{place}{key}"
        new = now.get(key)
        if path in FREE or (key == "seeds" and isinstance(new, int) and new >= old):
            continue
        if key in ("strategies", "tasks") and place.startswith("learners."):
            continue  # which runs there are, not what they are
        if isinstance(old, dict) and isinstance(new, dict):
            found = changed(old, new, f"{path}.")
            if found is not None:
                return found
        elif old != new:
            return path, old, new
    added = [key for key in now if key not in before]
    if added and place and place.rstrip(".") not in GROWS:
        return f"{place}{added[0]}", None, now[added[0]]
    return None
