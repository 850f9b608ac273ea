"""The learner on top of a potential: what its labels still lack, linear in its own tangent features."""
