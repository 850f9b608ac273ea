"""The bonds and angles of CHGNet, from pairs of atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surveyor.potentials.graphs import Graph
from surveyor.types import Float64Array, IndexArray


@dataclass(frozen=True, eq=False)
class Bonds:
    """What the edges of a graph are parts of.

    An edge (i, j, S) and its reverse (j, i, −S) are one bond. Two different edges from one atom, both shorter
    than a cutoff, make an angle; (a, b) and (b, a) are two.

    | variable | shape       | meaning                                              |
    |----------|-------------|------------------------------------------------------|
    | edges    | (edges,)    | those of the graph that have a reverse               |
    | of_edge  | (edges,)    | bond of each                                         |
    | first    | (bonds,)    | one edge of each bond                                |
    | angles   | (2, angles) | the two edges of each angle, sorted by their atom    |
    """

    edges: IndexArray
    of_edge: IndexArray
    first: IndexArray
    angles: IndexArray

    @classmethod
    def of(cls, graph: Graph, cutoff: float) -> Bonds:
        """Those of a graph, with angles between edges below a cutoff (Å)."""
        i, j = graph.edges.astype(np.int64)
        images = graph.unit_shifts.astype(np.int64)
        most = int(np.abs(images).max(initial=0))
        image = images @ [(2 * most + 1) ** 2, 2 * most + 1, 1]  # its reverse has the other sign
        forward = (i < j) | ((i == j) & (image > 0))
        low, high, image = np.where(forward, (i, j, image), (j, i, -image))
        key = (low * len(graph.positions) + high) * (2 * most + 1) ** 3 + image
        _, bond, members = np.unique(key, return_inverse=True, return_counts=True)
        # Of a pair at the very cutoff, rounding may have kept one side.
        edges = np.flatnonzero(members[bond] == 2).astype(np.intp)
        _, first, of_edge = np.unique(key[edges], return_index=True, return_inverse=True)
        i, j = graph.edges[:, edges]
        vectors = graph.positions[j] - graph.positions[i] + graph.shifts[edges]
        return cls(edges, of_edge, first, _angles(i, vectors, cutoff))


def _angles(centres: IndexArray, vectors: Float64Array, cutoff: float) -> IndexArray:
    short = np.flatnonzero(np.einsum("ek,ek->e", vectors, vectors) < cutoff**2)
    short = short[np.argsort(centres[short], kind="stable")]
    degree = np.bincount(centres[short])
    begin = np.cumsum(degree) - degree
    partners = degree[centres[short]]
    left = np.repeat(np.arange(len(short)), partners)
    within = np.arange(len(left)) - np.repeat(np.cumsum(partners) - partners, partners)
    right = np.repeat(begin[centres[short]], partners) + within
    different = left != right
    return np.stack([short[left[different]], short[right[different]]]).astype(np.intp)
