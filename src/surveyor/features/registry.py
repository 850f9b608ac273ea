"""The feature maps by name: what the command line, configuration files and the benchmark know of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from surveyor.errors import ConfigError
from surveyor.features.activations import Activations, ForceActivations
from surveyor.features.forces import EnergyForceTangent, ForceTangent
from surveyor.features.soap import Soap
from surveyor.features.tangent import Tangent
from surveyor.potentials.base import Remote
from surveyor.registry import Registry, check_name
from surveyor.types import Potential, StorableFeatureMap

FEATURES: Registry[Callable[..., StorableFeatureMap]] = Registry(
    {
        "tangent": partial(Tangent, normalise="atoms"),
        "activations": Activations,
        "force-tangent": ForceTangent,
        "energy-force-tangent": EnergyForceTangent,
        "force-activations": ForceActivations,
        "soap": Soap,
    },
    "surveyor.features",
)


@dataclass(frozen=True, eq=False)
class Given:
    """What a feature map may be made from; it takes what it has a parameter of that name for.

    | variable   | meaning                                                                        |
    |------------|--------------------------------------------------------------------------------|
    | potential  | the pretrained potential; None where the map takes none                        |
    | elements   | atomic numbers that occur in the structures; empty where the map takes none    |
    | seed       | of everything that it draws                                                    |
    | parameters | of the potential that count: all, readout, interactions, or a regular expression |
    | dim        | sketch size                                                                    |
    | layers     | message-passing layers that count; None: all                                   |
    """

    potential: Potential | None = None
    elements: Sequence[int] = ()
    seed: int = 0
    parameters: str = "all"
    dim: int = 512
    layers: Sequence[int] | None = None


def takes(features: str, parameter: str, place: str = "features") -> bool:
    """Whether the feature map is made from a `potential`, the `elements`, …

    Raises:
        ConfigError: there is no such feature map.
    """
    return parameter in inspect.signature(FEATURES.find(features, place)).parameters


def check_settings(features: str, settings: Mapping[str, Any], place: str = "features") -> None:
    """Raise ConfigError if there is no such feature map, or it has no parameter of a setting's name."""
    known = inspect.signature(FEATURES.find(features, f"{place}: kind")).parameters
    own = [name for name in known if name not in {field.name for field in fields(Given)}]
    for name in settings:
        check_name(name, own, f"{place}: {features}: settings")


def make_features(
    features: str, given: Given, settings: Mapping[str, Any] | None = None
) -> StorableFeatureMap:
    """The feature map of that name.

    Args:
        settings: parameters of its own.

    Raises:
        ConfigError: there is no such feature map or setting, it needs a potential and there is none, or a
            setting is of another type.
    """
    check_settings(features, settings or {})
    if given.potential is None and takes(features, "potential"):
        raise ConfigError(f"features {features!r} without a potential", expected="a model")
    taken = {f.name: getattr(given, f.name) for f in fields(Given) if takes(features, f.name)}
    if "potential" in taken and isinstance(given.potential, Remote):
        del taken["potential"]
        return given.potential.feature_map(features, taken, settings or {})
    try:
        return FEATURES[features](**taken, **(settings or {}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"features {features!r} with {dict(settings or {})}: {error}") from error
