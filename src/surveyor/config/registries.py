"""Names that configuration files and the command line may use; the only registries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from surveyor.config.schema import FeatureConfig
from surveyor.selection import MaxVariance, Random
from surveyor.types import FeatureMap, Selector

if TYPE_CHECKING:
    from surveyor.potentials.mace import MacePotential


def _tangent(potential: MacePotential, config: FeatureConfig, seed: int) -> FeatureMap:
    from surveyor.features.tangent import Tangent

    return Tangent(potential, config.parameters, config.dim, seed, normalise="atoms")


def _activations(potential: MacePotential, config: FeatureConfig, seed: int) -> FeatureMap:  # noqa: ARG001
    from surveyor.features.activations import Activations

    return Activations(potential, layers=config.layers)


FEATURES: dict[str, Callable[[MacePotential, FeatureConfig, int], FeatureMap]] = {
    "tangent": _tangent,
    "activations": _activations,
}

RULES: dict[str, Callable[[float], Selector]] = {
    "max-variance": lambda noise: MaxVariance(noise=noise),
    "random": lambda noise: Random(),  # noqa: ARG005
}
