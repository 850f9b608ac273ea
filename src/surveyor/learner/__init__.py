"""The learner on top of a potential: what its labels still lack, linear in its own tangent features."""

from surveyor.learner.opening import FAMILY
from surveyor.learner.potential import TangentPotential, fit_tangent

__all__ = ["FAMILY", "TangentPotential", "fit_tangent"]
