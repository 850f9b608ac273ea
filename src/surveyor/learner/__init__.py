"""The learner on top of a potential: what its labels still lack, linear in its own tangent features."""

from surveyor.learner.choice import Choice, choose_correction
from surveyor.learner.opening import FAMILY
from surveyor.learner.potential import TangentPotential, TangentSettings, fit_tangent

__all__ = ["FAMILY", "Choice", "TangentPotential", "TangentSettings", "choose_correction", "fit_tangent"]
