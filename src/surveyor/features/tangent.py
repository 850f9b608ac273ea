"""Tangent features: the parameter gradient of the energy, whose kernel is the empirical NTK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from ase import Atoms

from surveyor.features.batches import ModelInput, in_batches
from surveyor.features.scaling import Normalise, check_normalise, normalised
from surveyor.features.sketch import CountSketch, GradientBlock, GradientRows, Identity
from surveyor.types import Features, Float64Array


class GradientPlan(Protocol):
    """Parameter gradients of all structures of a batch, in blocks."""

    def energy_blocks(self, data: ModelInput) -> Iterator[GradientBlock]: ...
    def force_blocks(self, data: ModelInput, probes: torch.Tensor) -> Iterator[tuple[int, GradientBlock]]: ...


class HasTangent(Protocol):
    """What a potential offers to this feature map."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    def parameter_names(self, pattern: str = "all") -> list[str]: ...
    def parameter_sizes(self, names: Sequence[str]) -> list[int]: ...
    def graph(self, structures: Sequence[Atoms]) -> ModelInput: ...
    def graphs(self, structures: Sequence[Atoms]) -> Iterator[tuple[list[Atoms], ModelInput]]: ...
    def gradient_plan(self, names: Sequence[str]) -> GradientPlan: ...


class Tangent:
    """φ(x) = S ∇θ E(x), so that φ(x)·φ(x') ≈ ∇θE(x)·∇θE(x'), the finite-width neural tangent kernel.

    | variable | shape    | meaning                                                          |
    |----------|----------|------------------------------------------------------------------|
    | E        | scalar   | predicted total energy, eV                                       |
    | θ        | (P,)     | the chosen parameters, in the model's own order                  |
    | S        | (dim, P) | seeded random sketch; the identity where dim is None             |
    | φ        | (dim,)   | one row a structure                                              |

    One forward and one backward pass a batch; the gradients are sketched a parameter at a time, so that the
    matrix of structures by parameters never exists (unless dim is None).

    Args:
        potential: the pretrained potential.
        parameters: `all`, `readout`, `interactions`, or a regular expression on parameter names.
        dim: sketch size; None keeps the gradient itself.
        seed: of the sketch.
        normalise: `none` (gradient of the total energy, extensive), `atoms` (of the energy per atom) or
            `cosine` (unit length).

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
        check_normalise(normalise)
        self.potential = potential
        self.parameters = parameters
        self.names = potential.parameter_names(parameters)
        sizes = potential.parameter_sizes(self.names)
        self.size = sum(sizes)
        self.sketch = Identity(self.size) if dim is None else CountSketch(self.size, dim, seed)
        self.seed = seed
        self.normalise: Normalise = normalise
        self.gradient_rows = GradientRows(self.names, sizes, self.sketch)
        self.plan = potential.gradient_plan(self.names)

    @property
    def dim(self) -> int:
        return self.sketch.dim

    @property
    def settings(self) -> Mapping[str, object]:
        """What the rows depend on, besides the structures."""
        return {
            "features": "tangent",
            "potential": self.potential.fingerprint,
            "parameters": self.parameters,
            "dim": None if isinstance(self.sketch, Identity) else self.dim,
            "seed": self.seed,
            "normalise": self.normalise,
        }

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        rows = in_batches(structures, self.potential.graphs, self._energy_rows)
        if not rows:
            return Features.empty(self.dim)
        return Features.one_row_each(normalised(np.stack(rows), structures, self.normalise))

    def _energy_rows(self, batch: list[Atoms], graph: ModelInput) -> list[Float64Array]:
        blocks = self.plan.energy_blocks(graph)
        return list(self.gradient_rows.total(blocks, len(batch), self.potential.device).cpu().numpy())
