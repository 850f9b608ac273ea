"""Seeded random projections that keep inner products on average."""

from __future__ import annotations

import numpy as np
import torch

from surveyor.errors import FeatureError


class CountSketch:
    """S with one ±1 in every column: (Sg)_d = Σ_{p: h(p) = d} σ(p) g_p.

    E[(Sg)·(Sg')] = g·g', with variance at most 2 |g|²|g'|² / D.

    | variable | shape | meaning                              |
    |----------|-------|--------------------------------------|
    | g        | (P,)  | gradient, P parameters               |
    | h        | (P,)  | bucket of each parameter, uniform    |
    | σ        | (P,)  | sign of each parameter               |
    | D        |       | `dim`, number of rows of S           |

    Args:
        size: P.
        dim: D.
        seed: the same seed gives the same S on every device.

    Source: Charikar, Chen, Farach-Colton, doi 10.1016/S0304-3975(03)00400-6.
    """

    def __init__(self, size: int, dim: int, seed: int) -> None:
        if dim < 1:
            raise FeatureError(f"a sketch of {dim} columns", expected="dim ≥ 1, or None for the gradient itself")
        rng = np.random.default_rng([seed, size, dim])
        self.dim = dim
        self.buckets = torch.from_numpy(rng.integers(0, dim, size=size))
        self.signs = torch.from_numpy(2 * rng.integers(0, 2, size=size, dtype=np.int8) - 1)

    def __call__(self, gradients: torch.Tensor) -> torch.Tensor:
        """(rows, P) → (rows, D), accumulated in float64."""
        device = gradients.device
        sketched = torch.zeros(len(gradients), self.dim, dtype=torch.float64, device=device)
        signed = gradients.to(torch.float64) * self.signs.to(device)
        return sketched.index_add_(1, self.buckets.to(device), signed)
