"""Which structure of a batch each node or edge belongs to, and sums over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from surveyor.potentials.base import Batch

MANY = 32
"""Rows per group from which a matrix product for each group is faster on a CPU."""


class Segments:
    """Rows of a batch, each owned by one of `count` groups.

    | variable | shape             | meaning                                                     |
    |----------|-------------------|-------------------------------------------------------------|
    | owner    | (rows,)           | group of each row                                           |
    | count    |                   | number of groups                                            |
    | slots    | (count, longest)  | rows of each group; where there are fewer, `rows`: a zero   |
    """

    def __init__(self, owner: torch.Tensor, count: int) -> None:
        self.owner = owner
        self.count = count

    @cached_property
    def slots(self) -> torch.Tensor:
        rows = len(self.owner)
        order = torch.argsort(self.owner, stable=True)
        sizes = torch.bincount(self.owner, minlength=self.count)
        longest = int(sizes.max()) if rows else 0
        slots = torch.full((self.count, longest), rows, device=self.owner.device)
        group = self.owner[order]
        slots[group, torch.arange(rows, device=order.device) - (sizes.cumsum(0) - sizes)[group]] = order
        return slots

    @cached_property
    def slices(self) -> list[slice]:
        """The rows of each group where they are many, side by side and on a CPU; else nothing.

        There a product per group is faster than a padded one of all groups, which would copy all rows first.
        """
        many = len(self.owner) >= MANY * self.count
        if self.owner.device.type != "cpu" or not many or bool((self.owner.diff() < 0).any()):
            return []
        ends = torch.bincount(self.owner, minlength=self.count).cumsum(0).tolist()
        return [slice(start, end) for start, end in pairwise([0, *ends])]

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """(rows, …) → (count, longest, …), zero where a group has fewer rows."""
        below = (0, 0) * (values.ndim - 1) + (0, 1)
        return pad(values, below)[self.slots]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Σ over the rows of each group: (rows, n) → (count, n)."""
        return values.new_zeros(self.count, values.shape[1]).index_add(0, self.owner, values)

    def outer(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Σ_r Σ_m left_rmu right_rmw over the rows r of each group.

        | variable | shape            |
        |----------|------------------|
        | left     | (rows, m, u)     |
        | right    | (rows, m, w)     |
        | result   | (count, u, w)    |
        """
        if self.slices:
            pairs = ((left[own].flatten(0, 1), right[own].flatten(0, 1)) for own in self.slices)
            return torch.stack([own_left.T @ own_right for own_left, own_right in pairs])
        return self.spread(left).flatten(1, 2).transpose(1, 2) @ self.spread(right).flatten(1, 2)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that a batch of structures is made of, by domain.

    | variable | shape    | meaning                                                        |
    |----------|----------|----------------------------------------------------------------|
    | domains  |          | `nodes`, `edges` and others → structure of each row            |
    | elements | (nodes,) | index of each node's element                                   |
    | count    |          | number of structures                                           |
    """

    domains: Mapping[str, Segments]
    elements: torch.Tensor
    count: int

    @classmethod
    def of(cls, batch: Batch) -> Rows:
        """Those of a batch; each structure is a row of the domain `structures`."""
        owners = {"structures": torch.arange(batch.count, device=batch.positions.device), **batch.owners}
        return cls(
            {name: Segments(owner, batch.count) for name, owner in owners.items()},
            batch.elements,
            batch.count,
        )

    @property
    def nodes(self) -> Segments:
        return self.domains["nodes"]

    @cached_property
    def by_element(self) -> ElementGroups:
        return ElementGroups(self.nodes.owner, self.elements)


class ElementGroups(Segments):
    """Nodes grouped by structure and element.

    | variable  | shape   | meaning                     |
    |-----------|---------|-----------------------------|
    | structure | (count,)| structure of each group     |
    | element   | (count,)| element of each group       |
    """

    def __init__(self, structures: torch.Tensor, elements: torch.Tensor) -> None:
        pairs = torch.stack([structures, elements], dim=1)
        groups, owner = torch.unique(pairs, dim=0, return_inverse=True)
        super().__init__(owner, len(groups))
        self.structure, self.element = groups.unbind(1)
        self.present = [int(element) for element in torch.unique(self.element)]

    def members(self, element: int) -> torch.Tensor:
        """Groups of one element."""
        return torch.nonzero(self.element == element).flatten()
