"""The rules by name: what the command line, configuration files and docs know of them stands here."""

from __future__ import annotations

from dataclasses import dataclass, fields

from surveyor.registry import Registry
from surveyor.selection.clusters import LCMD
from surveyor.selection.committee import Committee
from surveyor.selection.distance import FarthestPoint
from surveyor.selection.herding import Herding
from surveyor.selection.maxvariance import MaxVariance
from surveyor.selection.rule import Rule
from surveyor.selection.targets import TargetVariance
from surveyor.selection.topk import TopK
from surveyor.selection.uniform import Random
from surveyor.types import Features, FloatArray

RULES: Registry[type[Rule]] = Registry(
    {
        "target-variance": TargetVariance,
        "max-variance": MaxVariance,
        "lcmd": LCMD,
        "farthest": FarthestPoint,
        "herding": Herding,
        "top-k": TopK,
        "committee": Committee,
        "random": Random,
    },
    "surveyor.rules",
    Rule,
)


@dataclass(frozen=True, eq=False)
class Given:
    """What a rule may be made from; it takes what it has a setting of that name for.

    | variable     | shape                 | meaning                                       |
    |--------------|-----------------------|-----------------------------------------------|
    | noise        | scalar                | λ of the posterior                            |
    | target       | Features or None      | rows of the structures that will be simulated |
    | cost         | (structures,) or None | price of each label                           |
    | budget       | scalar or None        | what the picks may cost together              |
    | disagreement | (structures,) or None | of a committee about each structure           |
    """

    noise: float = 1e-4
    target: Features | None = None
    cost: FloatArray | None = None
    budget: float | None = None
    disagreement: FloatArray | None = None


def make_rule(name: str, given: Given) -> Rule:
    """The rule of that name.

    Raises:
        ConfigError: there is none.
    """
    rule = RULES.find(name, "rule")
    return rule(
        **{setting: getattr(given, setting) for setting in _settings(rule) if hasattr(given, setting)}
    )


def rules_that_take(setting: str) -> list[str]:
    """Names of the rules that take a `target`, a `cost`, a `disagreement`, …"""
    return [name for name, rule in RULES.items() if setting in _settings(rule)]


def summary(name: str) -> str:
    """What the rule does, in a line: the first of its class's docstring."""
    return (RULES.find(name, "rule").__doc__ or "").strip().splitlines()[0]


def _settings(rule: type[Rule]) -> list[str]:
    return [field.name for field in fields(rule)]
