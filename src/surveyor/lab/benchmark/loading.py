"""From a YAML file to a checked benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from surveyor.errors import ConfigError
from surveyor.features import FEATURES
from surveyor.lab.benchmark.schema import BenchmarkSpec, StrategySpec
from surveyor.registry import check_name
from surveyor.selection import RULES, rules_that_take
from surveyor.specs import read_yaml, validate

COMMITTEE = "committee"

FROM_PRETRAINED = {"start": ("pretrained",), "mode": ("naive", "frozen")}
"""Every training of a benchmark starts from the pretrained weights and sees the chosen labels only."""


def load_benchmark(path: Path) -> BenchmarkSpec:
    """Read a benchmark file; relative paths in it become absolute.

    Raises:
        ConfigError: the file is missing, not YAML, a key is unknown or has a wrong value, or a name stands
            for nothing.
    """
    spec = validate(BenchmarkSpec, read_yaml(path), path)
    base = path.resolve().parent
    if (base / spec.model).is_file():
        spec = spec.model_copy(update={"model": str(base / spec.model)})
    if not spec.tasks or not spec.strategies or not spec.learners:
        raise ConfigError(f"{path.name}: no tasks, strategies or learners", expected="at least one of each")
    tasks = {name: task.beside(base) for name, task in spec.tasks.items()}
    for name, own in spec.maps.items():
        FEATURES.find(own.kind, f"{path.name}: maps: {name}: kind")
    for name, strategy in spec.strategies.items():
        _check_strategy(strategy, spec.maps, f"{path.name}: strategies: {name}")
    for name, learner in spec.learners.items():
        place = f"{path.name}: learners: {name}"
        _check_names(learner.strategies or (), spec.strategies, f"{place}: strategies")
        _check_names(learner.tasks or (), spec.tasks, f"{place}: tasks")
        for key, only in FROM_PRETRAINED.items():
            if (value := learner.training.model_dump().get(key, only[0])) not in only:
                raise ConfigError(f"{place}: training: {key} = {value!r}", expected=" or ".join(only))
    _check_names(spec.uncertainty, spec.maps, f"{path.name}: uncertainty")
    for key in ("baseline", "default", "aimed"):
        if (name := getattr(spec.report, key)) is not None:
            check_name(name, spec.strategies, f"{path.name}: report: {key}")
    check_name(spec.report.learner, spec.learners, f"{path.name}: report: learner")
    return spec.model_copy(update={"tasks": tasks})


def _check_strategy(strategy: StrategySpec, maps: Mapping[str, object], place: str) -> None:
    RULES.find(strategy.rule, f"{place}: rule")
    if strategy.features is not None:
        check_name(strategy.features, maps, f"{place}: features")
    elif strategy.rule not in ("random", COMMITTEE):
        raise ConfigError(
            f"{place}: the rule {strategy.rule!r} without features", expected="features: tangent"
        )
    aiming = rules_that_take("target")
    if strategy.target == "task" and strategy.rule not in aiming:
        raise ConfigError(
            f"{place}: a target for the rule {strategy.rule!r}", expected="rule: " + " or ".join(aiming)
        )


def _check_names(names: Iterable[str], known: Mapping[str, object], place: str) -> None:
    for name in names:
        check_name(name, known, place)
