"""Names that configuration files and the command line may use; the only registries."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from surveyor.config.schema import FeatureConfig, LabelConfig
from surveyor.errors import ConfigError
from surveyor.features.store import StorableFeatureMap
from surveyor.labelling import GFN2, CalculatorSpec
from surveyor.labelling.command import CommandSettings, command_spec
from surveyor.labelling.dft import PySCFSettings, pyscf_spec
from surveyor.selection import LCMD, FarthestPoint, MaxVariance, Random, TargetVariance, TopK
from surveyor.specs import validate
from surveyor.types import Features, Selector

if TYPE_CHECKING:
    from surveyor.potentials.mace import MacePotential


def _tangent(potential: MacePotential, config: FeatureConfig, seed: int) -> StorableFeatureMap:
    from surveyor.features.tangent import Tangent

    return Tangent(potential, config.parameters, config.dim, seed, normalise="atoms")


def _activations(potential: MacePotential, config: FeatureConfig, seed: int) -> StorableFeatureMap:  # noqa: ARG001
    from surveyor.features.activations import Activations

    return Activations(potential, layers=config.layers)


FEATURES: dict[str, Callable[[MacePotential, FeatureConfig, int], StorableFeatureMap]] = {
    "tangent": _tangent,
    "activations": _activations,
}

RULES: dict[str, Callable[[float, Features | None], Selector]] = {
    "max-variance": lambda noise, _: MaxVariance(noise=noise),
    "target-variance": lambda noise, target: TargetVariance(noise=noise, target=target),
    "lcmd": lambda _, __: LCMD(),
    "farthest": lambda _, __: FarthestPoint(),
    "top-k": lambda noise, _: TopK(noise=noise),
    "random": lambda _, __: Random(),
}


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

AIMS = ("target-variance",)
"""Rules that take target structures."""


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
    if target is not None and rule not in AIMS:
        raise ConfigError(
            f"{place}a target is given, but the rule {rule!r} aims at nothing",
            expected="the rule " + " or ".join(AIMS),
            todo="choose that rule, or leave the target out",
        )
