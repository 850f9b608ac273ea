"""Force-aware tangent features: parameter gradients of forces along probe directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from ase import Atoms

from surveyor.errors import FeatureError
from surveyor.features.batches import in_batches
from surveyor.features.probes import Probes, check_probes, directions
from surveyor.features.tangent import Tangent
from surveyor.potentials.base import Batch
from surveyor.types import Features, Float64Array, IndexArray, Potential


class ForceTangent:
    """Rows φ_v(x) = S ∇θ (v·F(x)), the mixed parameter–coordinate derivative −∂²E/∂θ∂x · v.

    | variable | shape     | meaning                                                             |
    |----------|-----------|---------------------------------------------------------------------|
    | F        | (n, 3)    | predicted forces, eV/Å                                              |
    | v        | (n, 3)    | probe direction, |v| = 1, seeded                                    |
    | θ, S     |           | as in `Tangent`; the same seed gives the same S                     |
    | φ        | (K, dim)  | K = min(probes, 3n) rows a structure, in the order of `directions`  |

    One forward and one backward pass a batch, and one pass through both for each probe.

    Args:
        potential: the pretrained potential.
        probes: directions a structure, or `all` for the 3n force components.
        dim: sketch size; None keeps the gradient itself.
        seed: of sketch and directions.
        parameters: as in `Tangent`.

    Raises:
        FeatureError: probes or dim < 1.
        PotentialError: no parameter matches.

    Source: arXiv 2605.13788.
    """

    def __init__(
        self,
        potential: Potential,
        probes: Probes = 4,
        dim: int | None = 512,
        seed: int = 0,
        *,
        parameters: str = "all",
    ) -> None:
        check_probes(probes)
        self.probes: Probes = probes
        self.tangent = Tangent(potential, parameters, dim, seed)

    @property
    def dim(self) -> int:
        return self.tangent.dim

    @property
    def settings(self) -> Mapping[str, object]:
        """What the rows depend on, besides the structures."""
        return {**self.tangent.settings, "features": "force-tangent", "probes": self.probes}

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        rows = in_batches(structures, self.tangent.potential, self._force_rows)
        return several_rows_each(rows, self.dim)

    def _force_rows(self, structures: list[Atoms], batch: Batch) -> list[Float64Array]:
        potential = self.tangent.potential
        probes = [directions(len(atoms), self.probes, self.tangent.seed) for atoms in structures]
        together = side_by_side(probes)
        rows = [self.tangent.gradient_rows.zeros(len(structures), potential.device) for _ in together]
        moves = torch.as_tensor(together).to(batch.positions)
        for number, block in self.tangent.plan.force_blocks(batch, moves):
            self.tangent.gradient_rows.add(rows[number], block)
        stacked = torch.stack(rows, dim=1).cpu().numpy()
        return [stacked[b, : len(own)] for b, own in enumerate(probes)]


class EnergyForceTangent:
    """Energy and force rows of each structure, each divided by the noise of its label.

    Rows ∇θE/σ_E and ∇θ(v·F)/σ_F: with labels divided alike, every row has unit noise (λ = 1).

    | variable | unit  | meaning                                                 |
    |----------|-------|---------------------------------------------------------|
    | σ_E      | eV    | `energy_noise`, of a structure's total energy           |
    | σ_F      | eV/Å  | `force_noise`, of a force component                     |
    | φ        |       | the energy row first, then the rows of `ForceTangent`   |

    Args:
        potential: the pretrained potential.
        energy_noise: σ_E > 0.
        force_noise: σ_F > 0.
        probes: as in `ForceTangent`.
        dim: sketch size; None keeps the gradient itself.
        seed: of sketch and directions.
        parameters: as in `Tangent`.

    Raises:
        FeatureError: a noise that is not positive, or what `ForceTangent` raises.

    Source: arXiv 2605.13788.
    """

    def __init__(
        self,
        potential: Potential,
        *,
        energy_noise: float = 0.01,
        force_noise: float = 0.1,
        probes: Probes = 4,
        dim: int | None = 512,
        seed: int = 0,
        parameters: str = "all",
    ) -> None:
        if not (energy_noise > 0 and force_noise > 0):
            raise FeatureError(
                f"energy_noise={energy_noise}, force_noise={force_noise}", expected="both above zero"
            )
        self.energy_noise = energy_noise
        self.force_noise = force_noise
        self.forces = ForceTangent(potential, probes, dim, seed, parameters=parameters)

    @property
    def dim(self) -> int:
        return self.forces.dim

    @property
    def settings(self) -> Mapping[str, object]:
        """What the rows depend on, besides the structures."""
        return {
            **self.forces.settings,
            "features": "energy-force-tangent",
            "energy_noise": self.energy_noise,
            "force_noise": self.force_noise,
        }

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        energies = self.forces.tangent(structures)
        forces = self.forces(structures)
        values = np.concatenate([energies.values / self.energy_noise, forces.values / self.force_noise])
        owner = np.concatenate([energies.owner, forces.owner])
        order: IndexArray = np.argsort(owner, kind="stable")
        return Features(values[order], owner[order], len(structures))


def side_by_side(probes: Sequence[Float64Array]) -> Float64Array:
    """Directions of each structure, (K_b, n_b, 3) → (max K, Σ n, 3), zero where a structure has fewer."""
    ends = np.cumsum([0, *(own.shape[1] for own in probes)])
    together = np.zeros((max(len(own) for own in probes), ends[-1], 3))
    for own, (start, stop) in zip(probes, pairwise(ends), strict=True):
        together[: len(own), start:stop] = own
    return together


def several_rows_each(rows: Sequence[Float64Array], dim: int) -> Features:
    """Features in which structure i owns the rows of the i-th array."""
    if not rows:
        return Features.empty(dim)
    owner = np.repeat(np.arange(len(rows), dtype=np.intp), [len(own) for own in rows])
    return Features(np.concatenate(rows), owner, len(rows))
