"""Names that configuration files and the command line may use; the only registries."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from surveyor.config.schema import FeatureConfig
from surveyor.errors import ConfigError
from surveyor.features.store import StorableFeatureMap
from surveyor.selection import LCMD, FarthestPoint, MaxVariance, Random, TargetVariance, TopK
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
