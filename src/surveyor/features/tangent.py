"""Tangent features: the parameter gradient of the energy, whose kernel is the empirical NTK."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from ase import Atoms

from surveyor.errors import FeatureError
from surveyor.features.sketch import CountSketch
from surveyor.types import Features

Normalise = Literal["none", "atoms"]


class HasTangent(Protocol):
    """What a potential offers to this feature map."""

    def parameter_names(self, pattern: str = "all") -> list[str]: ...
    def parameter_sizes(self, names: Sequence[str]) -> list[int]: ...
    def energy_gradients(
        self, structures: Sequence[Atoms], names: Sequence[str]
    ) -> Iterator[torch.Tensor]: ...


class Tangent:
    """φ(x) = S ∇θ E(x), so that φ(x)·φ(x') ≈ ∇θE(x)·∇θE(x'), the finite-width neural tangent kernel.

    | variable | shape    | meaning                                                          |
    |----------|----------|------------------------------------------------------------------|
    | E        | scalar   | predicted total energy, eV                                       |
    | θ        | (P,)     | the chosen parameters, in the model's own order                  |
    | S        | (dim, P) | seeded random sketch; the identity where dim is None             |
    | φ        | (dim,)   | one row a structure                                              |

    Args:
        potential: the pretrained potential.
        parameters: `all`, `readout`, `interactions`, or a regular expression on parameter names.
        dim: sketch size; None keeps the gradient itself.
        seed: of the sketch.
        normalise: `none` (gradient of the total energy, extensive) or `atoms` (of the energy per atom).

    Raises:
        FeatureError: dim < 1 or an unknown normalisation.
        PotentialError: no parameter matches.

    Source: arXiv 2605.03964; Jacot et al., arXiv 1806.07572.
    """

    def __init__(
        self,
        potential: HasTangent,
        parameters: str = "all",
        dim: int | None = 512,
        seed: int = 0,
        *,
        normalise: Normalise = "none",
    ) -> None:
        if normalise not in get_args(Normalise):
            raise FeatureError(f"normalise={normalise!r}", expected=" or ".join(get_args(Normalise)))
        self.potential = potential
        self.names = potential.parameter_names(parameters)
        self.size = sum(potential.parameter_sizes(self.names))
        self.sketch = None if dim is None else CountSketch(self.size, dim, seed)
        self.normalise: Normalise = normalise

    @property
    def dim(self) -> int:
        return self.size if self.sketch is None else self.sketch.dim

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        rows = []
        for gradient in self.potential.energy_gradients(structures, self.names):
            row = gradient if self.sketch is None else self.sketch(gradient[None])[0]
            rows.append(row.cpu().numpy().astype(np.float64))
        if not rows:
            return Features.empty(self.dim)
        values = np.stack(rows)
        if self.normalise == "atoms":
            values /= np.array([len(atoms) for atoms in structures])[:, None]
        return Features.one_row_each(values)
