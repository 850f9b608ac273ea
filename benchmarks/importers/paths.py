"""Frames along a reaction: interpolated, never computed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.mep import NEB

from surveyor.types import Float64Array

INNER = 3
"""Images between two given geometries."""


def interpolated(first: Atoms, last: Atoms, inner: int) -> list[Atoms]:
    """`inner` images between two geometries by the image-dependent pair potential: no calculator is needed.

    Source: Smidstrup et al., J. Chem. Phys. 140 (2014) 214106.
    """
    end = last.copy()
    minimize_rotation_and_translation(first, end)
    images = [first.copy() for _ in range(inner + 1)] + [end]
    NEB(images, remove_rotation_and_translation=True, method="improvedtangent").interpolate("idpp")
    return [Atoms(image.numbers, positions=image.positions, info=dict(first.info)) for image in images[1:-1]]


def coarse_path(first: Atoms, last: Atoms, inner: int) -> list[Atoms]:
    """Target geometries: what anyone can make from the two ends of a reaction alone."""
    images = interpolated(first, last, inner)
    for image in images:
        image.info = {
            key: value
            for key, value in first.info.items()
            if key in ("reaction", "total_charge", "total_spin")
        }
        image.info["config_type"] = "target"
    return images


def along(waypoints: Sequence[Atoms], fractions: Float64Array) -> list[Atoms]:
    """Geometries at fractions of the length of the interpolated path through the waypoints."""
    nodes = [waypoints[0]]
    for following in waypoints[1:]:
        last = following.copy()
        minimize_rotation_and_translation(nodes[-1], last)
        nodes += [*interpolated(nodes[-1], last, INNER), last]
    positions = np.array([node.positions for node in nodes])
    for before, image in itertools.pairwise(positions):
        # every image was aligned with the first of its segment; align it with its neighbour
        moved = Atoms(nodes[0].numbers, positions=image)
        minimize_rotation_and_translation(Atoms(nodes[0].numbers, positions=before), moved)
        image[:] = moved.positions
    steps = np.sqrt(((positions[1:] - positions[:-1]) ** 2).sum(axis=(1, 2)))
    length = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    flat = positions.reshape(len(positions), -1)
    found = np.stack([np.interp(fractions, length, column) for column in flat.T], axis=1)
    return [
        Atoms(nodes[0].numbers, positions=row.reshape(-1, 3), info=dict(waypoints[0].info)) for row in found
    ]
