"""Atoms that are near each other, in time and memory in proportion to the number of atoms."""

from __future__ import annotations

import itertools

import numpy as np
from ase.geometry import minkowski_reduce
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from surveyor.types import Float64Array, IndexArray

FLAT = 1e-4
"""Volume spanned by unit vectors along the periodic directions; below it they count as one direction."""


def full_cell(cell: ArrayLike, pbc: ArrayLike, positions: Float64Array, margin: float) -> Float64Array:
    """(3, 3) independent vectors: the periodic ones as they are, for open directions any that span the atoms.

    What stands along an open direction, zero or not, means nothing.

    Args:
        margin: kept free on both sides of the atoms along open directions, Å.
    """
    periodic = np.asarray(pbc, dtype=bool)
    whole = np.array(cell, dtype=np.float64)
    if periodic.all():
        return whole
    known = whole[periodic]
    normals = np.eye(3) if not len(known) else np.linalg.svd(known)[2][len(known) :]
    whole[~periodic] = normals * (np.ptp(positions @ normals.T, axis=0) + 2 * margin)[:, None]
    if np.linalg.det(whole) < 0:
        whole[np.flatnonzero(~periodic)[0]] *= -1
    return whole


def is_flat(vectors: Float64Array) -> bool:
    """Whether these (k, 3) vectors, none of them zero, lie along fewer than k directions."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return bool(np.sqrt(max(np.linalg.det(unit @ unit.T), 0.0)) < FLAT)


def shortest_translation(cell: ArrayLike, pbc: ArrayLike) -> float:
    """Length of the shortest lattice vector, Å; inf without periodic directions."""
    periodic = np.asarray(pbc, dtype=bool)
    if not periodic.any():
        return float("inf")
    reduced, _ = minkowski_reduce(np.asarray(cell, dtype=np.float64), periodic)
    return float(np.linalg.norm(reduced[periodic], axis=1).min())


def heights(vectors: Float64Array) -> Float64Array:
    """(k,) distances, Å, of the faces that the other of these independent (k, 3) vectors span.

    No lattice translation is shorter than the least of them.
    """
    return np.asarray(1.0 / np.sqrt(np.diag(np.linalg.inv(vectors @ vectors.T))))


def images(
    positions: Float64Array, cell: ArrayLike, pbc: ArrayLike, radius: float
) -> tuple[Float64Array, IndexArray]:
    """Atoms wrapped into the cell, followed by those periodic images that lie within a radius of it.

    Returns:
        (m, 3) places in Å, and (m,) which atom each is of; the first n are the atoms in order.
    """
    periodic = np.asarray(pbc, dtype=bool)
    owner = np.arange(len(positions), dtype=np.intp)
    if not periodic.any():
        return positions, owner
    whole = full_cell(cell, periodic, positions, 1.0)
    inverse = np.linalg.inv(whole)
    if radius * np.abs(inverse).max() > 1:  # a cell less skewed needs fewer images
        whole[periodic] = minkowski_reduce(whole, periodic)[0][periodic]
        inverse = np.linalg.inv(whole)
    scaled = positions @ inverse
    scaled[:, periodic] -= np.floor(scaled[:, periodic])
    for axis in np.flatnonzero(periodic):
        reach = radius * float(np.linalg.norm(inverse[:, axis]))  # radius / distance of the cell's faces
        parts, owners = [scaled], [owner]
        for shift in itertools.chain(*((n, -n) for n in range(1, int(np.ceil(reach)) + 1))):
            moved = scaled[:, axis] + shift
            near = (moved > -reach) & (moved < 1 + reach)
            copy = scaled[near]
            copy[:, axis] += shift
            parts.append(copy)
            owners.append(owner[near])
        scaled, owner = np.concatenate(parts), np.concatenate(owners)
    return scaled @ whole, owner


def closest_pair(
    positions: Float64Array, cell: ArrayLike, pbc: ArrayLike, radius: float
) -> tuple[int, int, float] | None:
    """Two different atoms nearer than the radius (Å), and their distance; None where there are none.

    Where several share a cube of side radius / √3, it is a pair of these: a cloud of atoms on one spot costs
    no more than any other. Otherwise no ball of that radius holds many atoms, and it is the closest pair.
    """
    n = len(positions)
    if n < 2:
        return None
    places, owner = images(positions, cell, pbc, radius)
    cubes = np.floor(places[:n] * (np.sqrt(3) / radius * 1.0000001)).astype(np.int64)
    order = np.lexsort(cubes.T)
    shared = np.flatnonzero((cubes[order[1:]] == cubes[order[:-1]]).all(axis=1))
    if len(shared):
        pairs = np.sort(np.stack([order[shared], order[shared + 1]], axis=1), axis=1)
        lengths = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
        best = int(lengths.argmin())
        return int(pairs[best, 0]), int(pairs[best, 1]), float(lengths[best])
    lengths, other = cKDTree(places).query(places[:n], k=2, distance_upper_bound=radius)
    first = int(lengths[:, 1].argmin())
    if not np.isfinite(lengths[first, 1]):
        return None
    i, j = sorted((first, int(owner[other[first, 1]])))
    return i, j, float(lengths[first, 1])


def nearest_distances(positions: Float64Array) -> tuple[Float64Array, IndexArray]:
    """(n,) distance of each atom to its nearest other, Å, and (n,) which that is; open directions only."""
    lengths, other = cKDTree(positions).query(positions, k=2)
    itself = other[:, 0] == np.arange(len(positions))
    column = itself.astype(np.intp)  # of atoms on one spot, the first found need not be the atom itself
    rows = np.arange(len(positions))
    return lengths[rows, column], other[rows, column].astype(np.intp)
