"""Potentials: the only place that knows how a model family works inside."""

from surveyor.potentials.opening import open_potential

__all__ = ["open_potential"]
