"""Seeded random projections that keep inner products on average, and their sums over parameter blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np
import torch

from surveyor.errors import FeatureError
from surveyor.potentials.taps import Block


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
            raise FeatureError(
                f"a sketch of {dim} columns", expected="dim ≥ 1, or None for the gradient itself"
            )
        rng = np.random.default_rng([seed, size, dim])
        self.size = size
        self.dim = dim
        self.buckets = torch.from_numpy(rng.integers(0, dim, size=size))
        self.signs = torch.from_numpy(2.0 * rng.integers(0, 2, size=size, dtype=np.int8) - 1.0)

    def __call__(self, gradients: torch.Tensor) -> torch.Tensor:
        """(rows, P) → (rows, D), accumulated in float64."""
        return self._part(gradients.to(torch.float64), slice(0, self.size))

    def transpose(self, weights: torch.Tensor) -> torch.Tensor:
        """Sᵀw (P,) for w (D,): (Sg)·w = g·(Sᵀw)."""
        return self.signs.to(weights) * weights[self.buckets.to(weights.device)]

    def add(
        self,
        rows: torch.Tensor,
        values: torch.Tensor,
        entries: slice | torch.Tensor,
        owner: torch.Tensor | None,
    ) -> None:
        """rows[b] += S g for gradients g that are known in some entries; see `Block`."""
        part = self._part(values, entries).to(rows.dtype)
        if owner is None:
            rows += part
        else:
            rows.index_add_(0, owner, part)

    def _part(self, values: torch.Tensor, entries: slice | torch.Tensor) -> torch.Tensor:
        self.buckets, self.signs = self.buckets.to(values.device), self.signs.to(values)
        signed = values * self.signs[entries]
        return values.new_zeros(len(values), self.dim).index_add_(1, self.buckets[entries], signed)


class Identity:
    """No sketch: the gradient itself, its parameters in the given order.

    Args:
        size: number of parameters P.
    """

    def __init__(self, size: int) -> None:
        self.dim = size

    def transpose(self, weights: torch.Tensor) -> torch.Tensor:
        """The weights themselves."""
        return weights

    def add(
        self,
        rows: torch.Tensor,
        values: torch.Tensor,
        entries: slice | torch.Tensor,
        owner: torch.Tensor | None,
    ) -> None:
        """rows[b] += g for gradients g that are known in some entries; see `Block`."""
        if owner is None:
            rows[:, entries] += values
        else:
            columns = torch.arange(self.dim, device=rows.device)[entries]
            rows.index_put_((owner[:, None], columns), values.to(rows.dtype), accumulate=True)


class GradientRows:
    """Adds up gradient blocks of a batch into one (sketched) row a structure.

    Args:
        names: parameters, in the order that the gradient has.
        sizes: number of entries of each.
        sketch: S, or the identity.
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int], sketch: CountSketch | Identity) -> None:
        self.offsets = dict(zip(names, accumulate(sizes, initial=0), strict=False))
        self.sketch = sketch

    def zeros(self, count: int, device: torch.device) -> torch.Tensor:
        """Rows before the first block, (count, dim)."""
        return torch.zeros(count, self.sketch.dim, dtype=torch.float64, device=device)

    def add(self, rows: torch.Tensor, block: Block) -> None:
        """rows[b] += S g[b] for the entries of one block."""
        offset = self.offsets[block.name]
        entries: slice | torch.Tensor
        if isinstance(block.entries, slice):
            entries = slice(block.entries.start + offset, block.entries.stop + offset)
        else:
            entries = block.entries + offset
        self.sketch.add(rows, block.values, entries, block.owner)

    def total(self, blocks: Iterable[Block], count: int, device: torch.device) -> torch.Tensor:
        """All blocks of a batch of `count` structures, (count, dim)."""
        rows = self.zeros(count, device)
        for block in blocks:
            self.add(rows, block)
        return rows
