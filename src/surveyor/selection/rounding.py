"""How far a computed residual may lie from the exact one: derived from the dtype and the row, not guessed."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

CONFIDENCE = 8.0


def relative_error(dim: int, dtype: DTypeLike) -> float:
    """η with |computed − exact| ≤ η |x|² for |x|² − |Vx|², where VᵀV ≤ I has rows of any number.

    A dot product of D terms obeys |fl(x·v) − x·v| ≤ γ |x| |v| with γ = ω√D u, except with a probability
    of at most 2D exp(−ω²/2): 10⁻¹¹ for D = 512 and ω = 8. Rounding x and v to the working dtype adds 2u.
    Squares then err by 2 |x·vⱼ| γ |x| |vⱼ|; rounding errors of different directions are independent, so
    that their sum errs by at most 2γ |x| (Σⱼ (x·vⱼ)² |vⱼ|²)^½ ≤ 2γ |x|². A squared distance
    |x|² + |c|² − 2x·c errs by 2γ |x| |c|, and the same η covers it with η (|x|² + |c|²) / 2.

    | symbol | variable   | value                                |
    |--------|------------|--------------------------------------|
    | D      | dim        | length of a row                      |
    | u      | unit       | half the machine epsilon of the dtype |
    | ω      | CONFIDENCE | 8                                    |
    | η      | returned   | 2 (ω√D + 2) u                        |

    Source: Higham & Mary, SIAM J. Sci. Comput. 41, A2815 (2019), doi:10.1137/18M1226312.
    """
    unit = float(np.finfo(dtype).eps) / 2
    return 2.0 * (CONFIDENCE * float(np.sqrt(dim)) + 2.0) * unit
