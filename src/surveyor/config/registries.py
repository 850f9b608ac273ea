"""Calculators by short name, and which options go together.

Rules are in `selection.registry`, feature maps in `features.registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from surveyor.config.schema import LabelConfig
from surveyor.errors import ConfigError
from surveyor.labelling import GFN2, CalculatorSpec
from surveyor.labelling.command import CommandSettings, command_spec
from surveyor.labelling.dft import PySCFSettings, pyscf_spec
from surveyor.selection import rules_that_take
from surveyor.specs import validate


def _gfn2(config: LabelConfig) -> CalculatorSpec:
    return replace(GFN2, settings={**GFN2.settings, **config.settings})


def _pyscf(config: LabelConfig) -> CalculatorSpec:
    return pyscf_spec(validate(PySCFSettings, config.settings, SETTINGS))


def _command(config: LabelConfig) -> CalculatorSpec:
    return command_spec(validate(CommandSettings, config.settings, SETTINGS))


SETTINGS = Path("labels: settings")
"""The place that messages about a labeller's settings name."""

CALCULATORS: dict[str, Callable[[LabelConfig], CalculatorSpec]] = {
    "gfn2-xtb": _gfn2,
    "pyscf": _pyscf,
    "command": _command,
}

MANUAL = "manual"
"""The labels come from people: `surveyor label export` and `collect`."""


def check_aim(rule: str, target: object, place: str = "") -> None:
    """Raise ConfigError if there is a target for a rule that aims at nothing."""
    if target is not None and rule not in rules_that_take("target"):
        raise ConfigError(
            f"{place}a target is given, but the rule {rule!r} aims at nothing",
            expected="the rule " + " or ".join(rules_that_take("target")),
            todo="choose that rule, or leave the target out",
        )


def check_price(rule: str, cost: object, budget: float | None) -> None:
    """Raise ConfigError if there are costs for a rule that weighs none, or a budget without costs."""
    if budget is not None and cost is None:
        raise ConfigError(
            f"a budget of {budget:g} without costs",
            expected="a cost for each structure",
            todo="say what a label costs: --cost atoms^3, or --cost KEY for a number under that key in info",
        )
    if cost is not None and rule not in rules_that_take("cost"):
        raise ConfigError(
            f"costs are given, but the rule {rule!r} weighs none",
            expected="the rule " + " or ".join(rules_that_take("cost")),
            todo="choose one of these rules, or leave the costs out",
        )


def check_committee(rule: str, members: int) -> None:
    """Raise ConfigError if potentials are named for a rule that asks none, or too few for one that does."""
    asking = rules_that_take("disagreement")
    if rule not in asking and members:
        raise ConfigError(
            f"a committee of {members} potentials is given, but the rule is {rule!r}",
            expected="the rule " + " or ".join(asking),
            todo="choose that rule, or leave the committee out",
        )
    if rule in asking and members < 2:
        raise ConfigError(
            f"the rule {rule!r} with {members} potentials",
            expected="two or more that were fine-tuned differently",
            todo="name them: --committee a.model --committee b.model",
        )
