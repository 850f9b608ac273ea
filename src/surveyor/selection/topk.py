"""The k largest residual variances, without conditioning: what redundancy costs is seen against this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from surveyor.posterior import check_noise
from surveyor.selection.lazy import Lazy
from surveyor.selection.residual import Directions, VarianceBounds
from surveyor.selection.rule import Request, Rule, Score


@dataclass(frozen=True, eq=False)
class TopK(Rule):
    """Largest residual variance, picks not counted as labelled; shows what near-copies cost.

        s²(x) = λ φ(x)ᵀ (ΦᵀΦ + λI)⁻¹ φ(x)

    Picks do not condition the posterior, so near-copies are picked together. Scores and their unit are
    those of `MaxVariance` at its first pick: s², or log det(I + S/λ) if structures own several rows.

    | symbol | variable | shape  | meaning                                 |
    |--------|----------|--------|-----------------------------------------|
    | λ      | noise    | scalar | in units of |φ|²; rows have mean |φ|² = 1 |

    Source: Holzmüller et al., JMLR 24 (2023) 164, arXiv:2203.09410 (MaxDiag).
    """

    conditioned: ClassVar[bool] = False
    noise: float = 1e-4

    def score(self, request: Request) -> Score:
        check_noise(self.noise)
        directions = Directions(request.train.values, self.noise, request.view.dtype)
        return Lazy(VarianceBounds(request.view, directions))
