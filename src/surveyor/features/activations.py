"""Hidden activations of the potential, pooled over atoms, and their slopes along probe directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from ase import Atoms

from surveyor.errors import FeatureError
from surveyor.features.batches import in_batches
from surveyor.features.forces import several_rows_each, side_by_side
from surveyor.features.probes import Probes, check_probes, directions
from surveyor.features.scaling import Normalise, check_normalise, normalised
from surveyor.potentials.activations import activation_slopes, activations
from surveyor.potentials.base import Batch, Layered, require
from surveyor.potentials.batches import batches
from surveyor.types import Features, Float64Array, FloatArray, Potential

Pool = Literal["mean", "sum", "by-element"]


class Activations:
    """Rotation-invariant hidden features h_a of chosen layers, pooled over the atoms of a structure.

    | pool         | φ                                      | scaling                                  |
    |--------------|----------------------------------------|------------------------------------------|
    | `mean`       | (1/n) Σ_a h_a                          | intensive                                |
    | `sum`        | Σ_a h_a                                | extensive: far-apart molecules add up    |
    | `by-element` | Σ over the atoms of each element of h_a | extensive; elements side by side        |

    | variable | shape      | meaning                                              |
    |----------|------------|------------------------------------------------------|
    | h_a      | (Σ width,) | 0e channels of atom a after each chosen layer        |
    | n        |            | number of atoms                                      |
    | φ        | (dim,)     | one row a structure                                  |

    Args:
        potential: the pretrained potential.
        layers: indices of message-passing layers; None takes all.
        pool: see the table.
        normalise: `none`, `atoms` (φ/n) or `cosine` (φ/|φ|).

    Raises:
        FeatureError: a layer that does not exist, or an unknown pooling or normalisation.
        PotentialError: the potential is not `Layered`.

    Source: arXiv 2605.03964 (activation kernels).
    """

    def __init__(
        self,
        potential: Potential,
        *,
        layers: Sequence[int] | None = None,
        pool: Pool = "mean",
        normalise: Normalise = "none",
    ) -> None:
        self.potential = require(potential, Layered, "activations")
        self.widths = [layer.width for layer in self.potential.layers()]
        n_layers = len(self.widths)
        chosen = tuple(range(n_layers)) if layers is None else tuple(layers)
        if not chosen or any(not 0 <= layer < n_layers for layer in chosen):
            raise FeatureError(f"layers {list(chosen)}", expected=f"indices from 0 to {n_layers - 1}")
        if pool not in get_args(Pool):
            raise FeatureError(f"pool={pool!r}", expected=", ".join(get_args(Pool)))
        check_normalise(normalise)
        self.layers = chosen
        self.pool: Pool = pool
        self.normalise: Normalise = normalise

    @property
    def dim(self) -> int:
        width = sum(self.widths[layer] for layer in self.layers)
        return width * len(self.potential.elements) if self.pool == "by-element" else width

    @property
    def settings(self) -> Mapping[str, object]:
        """What the rows depend on, besides the structures."""
        return {
            "features": "activations",
            "potential": self.potential.fingerprint,
            "layers": list(self.layers),
            "pool": self.pool,
            "normalise": self.normalise,
        }

    def pooled(self, atoms: Atoms, nodes: FloatArray) -> Float64Array:
        """(n, width) → (dim,), in float64."""
        nodes = nodes.astype(np.float64)
        if self.pool == "mean":
            return np.asarray(nodes.mean(axis=0))
        if self.pool == "sum":
            return np.asarray(nodes.sum(axis=0))
        of_element = np.asarray(self.potential.elements)[:, None] == atoms.numbers
        return np.asarray((of_element.astype(np.float64) @ nodes).ravel())

    def of_atoms(self, structures: Sequence[Atoms]) -> Iterator[FloatArray]:
        """h_a of every atom of each structure, (n_atoms, Σ widths), in order."""
        for part, batch in batches(self.potential, structures):
            with torch.no_grad():
                nodes = activations(self.potential, batch, self.layers).cpu().numpy()
            yield from np.split(nodes, np.cumsum([len(atoms) for atoms in part])[:-1])

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        nodes = self.of_atoms(structures)
        rows = [self.pooled(atoms, own) for atoms, own in zip(structures, nodes, strict=True)]
        if not rows:
            return Features.empty(self.dim)
        return Features.one_row_each(normalised(np.stack(rows), structures, self.normalise))


class ForceActivations:
    """Rows −dφ(x + εv)/dε of pooled activations φ along probe directions v.

    If energies are linear in φ, E = w·φ, then forces are linear in these rows: v·F = −w·dφ/dε.

    | variable | shape    | meaning                                               |
    |----------|----------|-------------------------------------------------------|
    | φ        | (dim,)   | as in `Activations`, not normalised                   |
    | v        | (n, 3)   | as in `ForceTangent`: the same seed, the same v       |

    Args:
        potential: the pretrained potential.
        probes: directions a structure, or `all` for the 3n coordinates.
        layers: as in `Activations`.
        pool: as in `Activations`.
        seed: of the directions.

    Raises:
        FeatureError: probes < 1, or what `Activations` raises.
    """

    def __init__(
        self,
        potential: Potential,
        probes: Probes = 4,
        *,
        layers: Sequence[int] | None = None,
        pool: Pool = "mean",
        seed: int = 0,
    ) -> None:
        check_probes(probes)
        self.probes: Probes = probes
        self.seed = seed
        self.activations = Activations(potential, layers=layers, pool=pool)

    @property
    def dim(self) -> int:
        return self.activations.dim

    @property
    def settings(self) -> Mapping[str, object]:
        """What the rows depend on, besides the structures."""
        return {
            **self.activations.settings,
            "features": "force-activations",
            "probes": self.probes,
            "seed": self.seed,
        }

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        rows = in_batches(structures, self.activations.potential, self._rows)
        return several_rows_each(rows, self.dim)

    def _rows(self, structures: list[Atoms], batch: Batch) -> list[Float64Array]:
        probes = [directions(len(atoms), self.probes, self.seed) for atoms in structures]
        ends = np.cumsum([len(atoms) for atoms in structures])[:-1]
        rows: list[list[Float64Array]] = [[] for _ in structures]
        moves = torch.as_tensor(side_by_side(probes))
        slopes = activation_slopes(self.activations.potential, batch, self.activations.layers, moves)
        for number, nodes in enumerate(slopes):
            each = np.split(nodes.cpu().numpy(), ends)
            for own, atoms, mine, slope in zip(rows, structures, probes, each, strict=True):
                if number < len(mine):
                    own.append(-self.activations.pooled(atoms, slope))
        return [np.stack(own) for own in rows]
