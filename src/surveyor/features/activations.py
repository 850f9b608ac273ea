"""Hidden activations of the potential, pooled over atoms, and their slopes along probe directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from ase import Atoms

from surveyor.errors import FeatureError
from surveyor.features.batches import ModelInput, in_batches
from surveyor.features.forces import several_rows_each, side_by_side
from surveyor.features.probes import Probes, check_probes, directions
from surveyor.features.scaling import Normalise, check_normalise, normalised
from surveyor.types import Features, Float64Array, FloatArray

Pool = Literal["mean", "sum", "by-element"]


class HasActivations(Protocol):
    """What a potential offers to these feature maps."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def elements(self) -> tuple[int, ...]: ...
    @property
    def n_layers(self) -> int: ...
    def activation_widths(self) -> list[int]: ...
    def graphs(self, structures: Sequence[Atoms]) -> Iterator[tuple[list[Atoms], ModelInput]]: ...
    def activations(self, structures: Sequence[Atoms], layers: Sequence[int]) -> Iterator[FloatArray]: ...
    def activation_slopes(
        self, data: ModelInput, layers: Sequence[int], probes: torch.Tensor
    ) -> Iterator[FloatArray]: ...


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

    Source: arXiv 2605.03964 (activation kernels).
    """

    def __init__(
        self,
        potential: HasActivations,
        *,
        layers: Sequence[int] | None = None,
        pool: Pool = "mean",
        normalise: Normalise = "none",
    ) -> None:
        n_layers = potential.n_layers
        chosen = tuple(range(n_layers)) if layers is None else tuple(layers)
        if not chosen or any(not 0 <= layer < n_layers for layer in chosen):
            raise FeatureError(f"layers {list(chosen)}", expected=f"indices from 0 to {n_layers - 1}")
        if pool not in get_args(Pool):
            raise FeatureError(f"pool={pool!r}", expected=", ".join(get_args(Pool)))
        check_normalise(normalise)
        self.potential = potential
        self.layers = chosen
        self.pool: Pool = pool
        self.normalise: Normalise = normalise

    @property
    def dim(self) -> int:
        widths = self.potential.activation_widths()
        width = sum(widths[layer] for layer in self.layers)
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

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        nodes = self.potential.activations(structures, self.layers)
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
        potential: HasActivations,
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
        rows = in_batches(structures, self.activations.potential.graphs, self._rows)
        return several_rows_each(rows, self.dim)

    def _rows(self, batch: list[Atoms], graph: ModelInput) -> list[Float64Array]:
        probes = [directions(len(atoms), self.probes, self.seed) for atoms in batch]
        ends = np.cumsum([len(atoms) for atoms in batch])[:-1]
        rows: list[list[Float64Array]] = [[] for _ in batch]
        moves = torch.as_tensor(side_by_side(probes))
        slopes = self.activations.potential.activation_slopes(graph, self.activations.layers, moves)
        for number, nodes in enumerate(slopes):
            for own, atoms, mine, slope in zip(rows, batch, probes, np.split(nodes, ends), strict=True):
                if number < len(mine):
                    own.append(-self.activations.pooled(atoms, slope))
        return [np.stack(own) for own in rows]
