"""Names that configuration files and the command line may use; those of rules are in `selection.registry`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from surveyor.config.schema import FeatureConfig, LabelConfig
from surveyor.errors import ConfigError
from surveyor.features.store import StorableFeatureMap
from surveyor.labelling import GFN2, CalculatorSpec
from surveyor.labelling.command import CommandSettings, command_spec
from surveyor.labelling.dft import PySCFSettings, pyscf_spec
from surveyor.selection import rules_that_take
from surveyor.specs import validate
from surveyor.types import Potential


@dataclass(frozen=True, eq=False)
class Represented:
    """What a feature map is made from; it takes what it needs.

    | variable  | meaning                                                                                |
    |-----------|----------------------------------------------------------------------------------------|
    | potential | the pretrained potential; None for the maps of `GEOMETRIC`, which know nothing of it   |
    | elements  | atomic numbers that occur in the structures                                            |
    """

    potential: Potential | None
    elements: Sequence[int] = ()

    def pretrained(self, features: str) -> Potential:
        """The potential.

        Raises:
            ConfigError: there is none.
        """
        if self.potential is None:
            raise ConfigError(f"features {features!r} without a potential", expected="a model")
        return self.potential


def _tangent(of: Represented, config: FeatureConfig, seed: int) -> StorableFeatureMap:
    from surveyor.features.tangent import Tangent

    return Tangent(of.pretrained("tangent"), config.parameters, config.dim, seed, normalise="atoms")


def _activations(of: Represented, config: FeatureConfig, _: int) -> StorableFeatureMap:
    from surveyor.features.activations import Activations

    return Activations(of.pretrained("activations"), layers=config.layers)


def _soap(of: Represented, _: FeatureConfig, __: int) -> StorableFeatureMap:
    from surveyor.features.soap import Soap

    return Soap(of.elements)


FEATURES: dict[str, Callable[[Represented, FeatureConfig, int], StorableFeatureMap]] = {
    "tangent": _tangent,
    "activations": _activations,
    "soap": _soap,
}

GEOMETRIC = ("soap",)
"""Features of the geometry alone: no potential is opened for them."""


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


def check_name(name: str, registry: Mapping[str, object], place: str) -> None:
    """Raise ConfigError, with the closest name, if the registry does not hold it."""
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=1)
        raise ConfigError(
            f"{place} = {name!r}",
            expected="one of " + ", ".join(registry),
            todo=f"did you mean '{near[0]}'?" if near else None,
        )


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
