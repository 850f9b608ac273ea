"""Greedy maximal residual variance (MaxDet): every pick conditions the posterior before the next."""

from __future__ import annotations

from dataclasses import dataclass

from surveyor.posterior import check_noise
from surveyor.selection.lazy import Lazy
from surveyor.selection.residual import Directions, VarianceBounds
from surveyor.selection.rule import PricedRule, Request, Score


@dataclass(frozen=True, eq=False)
class MaxVariance(PricedRule):
    """Largest residual variance, for a potential that must be right everywhere; the fastest.

        s²(x) = λ φ(x)ᵀ (ΦᵀΦ + λI)⁻¹ φ(x)
        next  = argmax s²(x)                          every structure owns one row
        next  = argmax log det(I + S(x)/λ)            structures own several rows; S: residual covariance
        next  = argmax log det(I + S(x)/λ) / cost(x)  with costs

    Both are the greedy maximum of log det(I + ΦΦᵀ/λ) over the labelled rows: for one row,
    log det(I + S/λ) = log(1 + s²/λ) orders as s² does. The determinant, not the sum of variances, is what
    several rows of one structure add up to: force rows that say the same count once. Scores are s² (unit
    of |φ|²) if every structure owns one row and there is no cost; nats, or nats over the cost, otherwise;
    so is the threshold.

    | symbol | variable | shape  | meaning                                 |
    |--------|----------|--------|-----------------------------------------|
    | λ      | noise    | scalar | in units of |φ|²; rows have mean |φ|² = 1 |

    Source: Holzmüller et al., JMLR 24 (2023) 164, arXiv:2203.09410 (MaxDet); Leskovec et
    al., KDD 2007, doi:10.1145/1281192.1281239 (gain for the cost).
    """

    noise: float = 1e-4

    def score(self, request: Request) -> Score:
        check_noise(self.noise)
        directions = Directions(request.train.values, self.noise, request.view.dtype)
        weight = request.weight
        return Lazy(VarianceBounds(request.view, directions, weight=weight, as_gain=weight is not None))
