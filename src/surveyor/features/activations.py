"""Hidden activations of the potential, pooled over atoms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, get_args

import numpy as np
from ase import Atoms

from surveyor.errors import FeatureError
from surveyor.types import Features, FloatArray

Pool = Literal["mean", "sum"]


class HasActivations(Protocol):
    """What a potential offers to this feature map."""

    @property
    def n_layers(self) -> int: ...
    def activation_widths(self) -> list[int]: ...
    def activations(self, structures: Sequence[Atoms], layers: Sequence[int]) -> Iterator[FloatArray]: ...


class Activations:
    """Rotation-invariant hidden features h_a of chosen layers: φ(x) = Σ_a h_a or (1/n) Σ_a h_a.

    | variable | shape      | meaning                                              |
    |----------|------------|------------------------------------------------------|
    | h_a      | (Σ width,) | 0e channels of atom a after each chosen layer        |
    | n        |            | number of atoms                                      |
    | φ        | (dim,)     | one row a structure                                  |

    Args:
        potential: the pretrained potential.
        layers: indices of message-passing layers; None takes all.
        pool: `mean` (size-intensive) or `sum` (extensive: far-apart molecules add up).

    Raises:
        FeatureError: a layer that does not exist, or an unknown pooling.

    Source: arXiv 2605.03964 (activation kernels).
    """

    def __init__(
        self, potential: HasActivations, *, layers: Sequence[int] | None = None, pool: Pool = "mean"
    ) -> None:
        n_layers = potential.n_layers
        chosen = tuple(range(n_layers)) if layers is None else tuple(layers)
        if not chosen or any(not 0 <= layer < n_layers for layer in chosen):
            raise FeatureError(f"layers {list(chosen)}", expected=f"indices from 0 to {n_layers - 1}")
        if pool not in get_args(Pool):
            raise FeatureError(f"pool={pool!r}", expected=" or ".join(get_args(Pool)))
        self.potential = potential
        self.layers = chosen
        self.pool: Pool = pool

    @property
    def dim(self) -> int:
        widths = self.potential.activation_widths()
        return sum(widths[layer] for layer in self.layers)

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        rows = [
            getattr(nodes, self.pool)(axis=0, dtype=np.float64)
            for nodes in self.potential.activations(structures, self.layers)
        ]
        return Features.one_row_each(np.stack(rows)) if rows else Features.empty(self.dim)
