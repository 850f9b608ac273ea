"""Feature maps: structures → rows whose inner product is the kernel."""

from surveyor.features.activations import Activations, ForceActivations
from surveyor.features.forces import EnergyForceTangent, ForceTangent
from surveyor.features.registry import FEATURES
from surveyor.features.scaling import unit_mean_square
from surveyor.features.tangent import Tangent

__all__ = [
    "FEATURES",
    "Activations",
    "EnergyForceTangent",
    "ForceActivations",
    "ForceTangent",
    "Tangent",
    "unit_mean_square",
]
