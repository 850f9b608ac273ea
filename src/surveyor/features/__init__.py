"""Feature maps: structures → rows whose inner product is the kernel."""

from surveyor.features.activations import Activations
from surveyor.features.scaling import unit_mean_square
from surveyor.features.tangent import Tangent

__all__ = ["Activations", "Tangent", "unit_mean_square"]
