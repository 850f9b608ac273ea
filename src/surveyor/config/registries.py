"""Names that configuration files and the command line may use; the only registries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from surveyor.config.schema import FeatureConfig
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
