"""Tangent features: the parameter gradient of the energy, whose kernel is the empirical NTK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from surveyor.features.batches import in_batches
from surveyor.features.scaling import Normalise, check_normalise, normalised
from surveyor.features.sketch import CountSketch, GradientRows, Identity
from surveyor.potentials.base import Batch, Differentiable, require
from surveyor.potentials.parameters import parameter_names, parameter_sizes
from surveyor.potentials.plan import gradient_plan
from surveyor.types import Features, Float64Array, Potential


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
        PotentialError: no parameter matches, or the potential is not `Differentiable`.

    Source: arXiv 2605.03964; Jacot et al., arXiv 1806.07572.
    """

    def __init__(
        self,
        potential: Potential,
        parameters: str = "all",
        dim: int | None = 512,
        seed: int = 0,
        *,
        normalise: Normalise = "none",
    ) -> None:
        check_normalise(normalise)
        self.potential = require(potential, Differentiable, "tangent features")
        self.parameters = parameters
        self.names = parameter_names(self.potential.model, parameters)
        sizes = parameter_sizes(self.potential.model, self.names)
        self.size = sum(sizes)
        self.sketch = Identity(self.size) if dim is None else CountSketch(self.size, dim, seed)
        self.seed = seed
        self.normalise: Normalise = normalise
        self.gradient_rows = GradientRows(self.names, sizes, self.sketch)
        self.plan = gradient_plan(self.potential, self.names)

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
        rows = in_batches(structures, self.potential, self._energy_rows)
        if not rows:
            return Features.empty(self.dim)
        return Features.one_row_each(normalised(np.stack(rows), structures, self.normalise))

    def _energy_rows(self, structures: list[Atoms], batch: Batch) -> list[Float64Array]:
        blocks = self.plan.energy_blocks(batch)
        return list(self.gradient_rows.total(blocks, len(structures), self.potential.device).cpu().numpy())
