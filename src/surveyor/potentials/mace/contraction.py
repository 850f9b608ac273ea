"""Per-structure parameter gradients of MACE's symmetric contraction."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from surveyor.potentials.rows import ElementGroups, Rows
from surveyor.potentials.taps import Block, Tap

NEGLIGIBLE = 1e-12
"""Relative size below which a coupling coefficient is a rounding error."""

CPU_CHUNK, GPU_CHUNK = 2**17, 2**25
"""Numbers worked on at once: what fits into a cache, or into a small share of a GPU's memory."""


@dataclass(frozen=True, eq=False)
class Couplings:
    """Couplings of one degree ν, over products of features in ascending order.

    | variable   | shape       | meaning                                                             |
    |------------|-------------|---------------------------------------------------------------------|
    | components | (rows,)     | m, component of the output irrep                                    |
    | factors    | (rows, ν)   | i ≤ j ≤ …, the features that are multiplied                         |
    | weights    | (rows, K)   | Σ of U_{m,ij…,k} over all orders of i, j, …; only rows that count   |
    """

    components: torch.Tensor
    factors: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def of(cls, tensor: torch.Tensor, degree: int) -> Couplings:
        """From U of shape ([2L + 1,] d, …, d, K)."""
        d, paths = tensor.shape[-2], tensor.shape[-1]
        dense = tensor.detach().cpu().double().reshape(-1, *(d,) * degree, paths)
        ascending = list(itertools.combinations_with_replacement(range(d), degree))
        position = {factors: number for number, factors in enumerate(ascending)}
        target = [position[tuple(sorted(factors))] for factors in itertools.product(range(d), repeat=degree)]
        summed = dense.new_zeros(len(dense), len(ascending), paths)
        summed.index_add_(1, torch.tensor(target), dense.reshape(len(dense), -1, paths))
        largest = summed.abs().amax(dim=2)
        components, products = torch.nonzero(largest > NEGLIGIBLE * largest.max(), as_tuple=True)
        return cls(
            components.to(tensor.device),
            torch.tensor(ascending)[products].to(tensor.device),
            summed[components, products].to(tensor),
        )


class ContractionRule:
    """y_rcm = Σ_ν Σ_k W^ν_{z(r)kc} Σ_ij… U^ν_{m,ij…,k} x_rci x_rcj … for each output irrep.

    ∂E_b/∂W^ν_zkc = Σ_ij…m U^ν_{m,ij…,k} Σ_{r∈b, z(r)=z} g_rcm x_rci x_rcj …: the products are summed over the
    atoms of a structure and element before they meet U, and U is taken over ascending i ≤ j ≤ … only.

    | variable | shape            | meaning                                          |
    |----------|------------------|--------------------------------------------------|
    | x        | (nodes, C, d)    | node features, all irreps side by side           |
    | g        | (nodes, C(2L+1)) | ∂E/∂y                                            |
    | W^ν      | (elements, K, C) | the weights; one element where they are shared   |

    Args:
        name: of the module.
        module: its own forward is what runs.
        tensors: for each degree ν, the name of its weights and U^ν.

    Source: Batatia et al., arXiv 2206.07697, eq. 10 and 11.
    """

    def __init__(
        self, name: str, module: torch.nn.Module, tensors: Mapping[int, tuple[str, torch.Tensor]]
    ) -> None:
        self.own_forward: Callable[..., torch.Tensor] = module.forward
        self._tensors = {f"{name}.{weights}": (degree, u) for degree, (weights, u) in tensors.items()}

    @cached_property
    def couplings(self) -> dict[str, Couplings]:
        """Name of the weights → their couplings; made when the first gradient asks for them."""
        return {name: Couplings.of(tensor, degree) for name, (degree, tensor) in self._tensors.items()}

    def forward(self, tap: Tap, *inputs: torch.Tensor) -> torch.Tensor:
        return tap(inputs, self.own_forward(*inputs))

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        x, elements = inputs
        groups = rows.by_element
        if elements.shape[1] == 1:  # the elements share their weights
            groups = ElementGroups(rows.nodes.owner, torch.zeros_like(rows.elements))
        features = x.transpose(1, 2).contiguous()
        upstream = gradient.reshape(*x.shape[:2], -1).transpose(1, 2).contiguous()
        for name, couplings in self.couplings.items():
            sums = _sums_of_products(upstream, features, couplings, groups)
            values = torch.einsum("pk,gpc->gkc", couplings.weights.to(sums.dtype), sums).flatten(1)
            size = values.shape[1]
            for element in groups.present:
                members = groups.members(element)
                entries = slice(element * size, (element + 1) * size)
                yield Block(name, entries, groups.structure[members], values[members])


def _sums_of_products(
    upstream: torch.Tensor, features: torch.Tensor, couplings: Couplings, groups: ElementGroups
) -> torch.Tensor:
    """Σ_{r in group} g_rmc x_ric x_rjc … for each coupling, (groups, couplings, C).

    | variable | shape               |
    |----------|---------------------|
    | upstream | (nodes, 2L + 1, C)  |
    | features | (nodes, d, C)       |
    """
    nodes, _, channels = features.shape
    at_once = max(1, (CPU_CHUNK if features.device.type == "cpu" else GPU_CHUNK) // max(1, nodes * channels))
    sums = []
    for components, factors in zip(
        torch.split(couplings.components, at_once), torch.split(couplings.factors, at_once), strict=True
    ):
        products = upstream.index_select(1, components)
        for factor in factors.unbind(1):
            products = products * features.index_select(1, factor)
        sums.append(groups.total(products.flatten(1)).view(groups.count, -1, channels))
    return torch.cat(sums, dim=1) if sums else features.new_zeros(groups.count, 0, channels)
