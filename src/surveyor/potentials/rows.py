"""Which structure of a batch each node or edge belongs to, and sums over them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch.nn.functional import pad

MANY = 32
"""Rows a group from which a matrix product for each group is faster on a CPU."""


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

        There a product a group is faster than a padded one of all groups, which would copy all rows first.
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
    """Nodes and edges of a batch of structures.

    | variable | shape    | meaning                                          |
    |----------|----------|--------------------------------------------------|
    | nodes    | (nodes,) | structure of each node                           |
    | edges    | (edges,) | structure of each edge                           |
    | elements | (nodes,) | index of each node's element                     |
    | count    |          | number of structures                             |
    """

    nodes: Segments
    edges: Segments
    elements: torch.Tensor
    count: int

    @classmethod
    def of(cls, data: dict[str, torch.Tensor]) -> Rows:
        """From the input of a model's forward pass."""
        batch = data["batch"]
        count = len(data["ptr"]) - 1
        elements = data["node_attrs"].argmax(dim=1)
        return cls(Segments(batch, count), Segments(batch[data["edge_index"][0]], count), elements, count)

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
