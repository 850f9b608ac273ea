"""Displacement directions along which forces are seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from surveyor.errors import FeatureError
from surveyor.types import Float64Array

Probes = int | Literal["all"]


def check_probes(probes: Probes) -> None:
    """Raise a FeatureError unless the number of probes is positive, or `all`."""
    if probes != "all" and (isinstance(probes, str) or probes < 1):
        raise FeatureError(f"probes={probes!r}", expected="a number from 1, or 'all'")


def directions(n_atoms: int, probes: Probes, seed: int) -> Float64Array:
    """Orthonormal directions v of all atoms together, (min(probes, 3n), n, 3).

    They depend on seed and number of atoms only, hence not on how structures are batched. A label v·F then
    has the noise of one force component. `all` gives the 3n unit vectors: v·F are the force components.
    """
    n = 3 * n_atoms
    if probes == "all" or probes >= n:
        return np.eye(n).reshape(n, n_atoms, 3)
    random = np.random.default_rng([seed, n_atoms]).standard_normal((n, probes))
    orthonormal, triangle = np.linalg.qr(random)
    orthonormal *= np.sign(np.diag(triangle))  # LAPACK's choice of sign is its own
    return np.ascontiguousarray(orthonormal.T).reshape(probes, n_atoms, 3)


def projections(forces: Sequence[Float64Array], probes: Probes, seed: int) -> Float64Array:
    """v·F of every structure along its `directions`, one structure after the other.

    | symbol | variable | shape          |
    |--------|----------|----------------|
    | F      | forces   | (n, 3) each    |
    """
    each = [np.einsum("kax,ax->k", directions(len(own), probes, seed), own) for own in forces]
    return np.concatenate(each or [np.zeros(0)])
