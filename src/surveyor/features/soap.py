"""SOAP: a baseline that knows geometry only, and nothing of the potential."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from surveyor.errors import FeatureError
from surveyor.features.scaling import Normalise, check_normalise, normalised
from surveyor.types import Features

SoapPool = Literal["mean", "sum"]


def occurring(*sources: Iterable[Atoms]) -> tuple[int, ...]:
    """Atomic numbers that occur in structures, ascending."""
    return tuple(sorted({int(z) for source in sources for atoms in source for z in set(atoms.numbers)}))


class Soap:
    """Smooth overlap of atomic positions, power spectrum p_a of each atom, pooled over atoms.

    φ = (1/n) Σ_a p_a (`mean`) or Σ_a p_a (`sum`).

    | variable | shape  | meaning                                                            |
    |----------|--------|--------------------------------------------------------------------|
    | p_a      | (dim,) | power spectrum of the neighbour density around atom a              |
    | n        |        | number of atoms                                                    |
    | φ        | (dim,) | one row a structure                                                |

    Args:
        elements: atomic numbers that may occur.
        cutoff: Å.
        n_max: radial functions.
        l_max: highest angular momentum.
        sigma: width of the atomic Gaussians, Å.
        pool: `mean` or `sum`.
        normalise: `none`, `atoms` or `cosine`.

    Raises:
        FeatureError: dscribe is not installed, or an element was not announced.

    Source: Bartók, Kondor, Csányi, arXiv 1209.3140; dscribe's implementation.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        n_max: int = 8,
        l_max: int = 6,
        sigma: float = 0.3,
        pool: SoapPool = "mean",
        normalise: Normalise = "none",
    ) -> None:
        if pool not in get_args(SoapPool):
            raise FeatureError(f"pool={pool!r}", expected=", ".join(get_args(SoapPool)))
        check_normalise(normalise)
        try:
            descriptors: Any = import_module("dscribe.descriptors")
        except ImportError as error:
            raise FeatureError(
                "SOAP features need the package dscribe, which is not installed",
                todo="pip install 'surveyor[soap]'",
            ) from error
        self.elements = tuple(sorted({int(number) for number in elements}))
        self.pool: SoapPool = pool
        self.normalise: Normalise = normalise
        self._numbers: dict[str, float] = {"cutoff": cutoff, "n_max": n_max, "l_max": l_max, "sigma": sigma}
        symbols = [chemical_symbols[number] for number in self.elements]
        self._soap, self._periodic = (
            descriptors.SOAP(
                species=symbols, r_cut=cutoff, n_max=n_max, l_max=l_max, sigma=sigma, periodic=periodic
            )
            for periodic in (False, True)
        )

    @property
    def dim(self) -> int:
        return int(self._soap.get_number_of_features())

    @property
    def settings(self) -> Mapping[str, object]:
        """What the rows depend on, besides the structures."""
        return {
            "features": "soap",
            "elements": list(self.elements),
            **self._numbers,
            "pool": self.pool,
            "normalise": self.normalise,
        }

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        if not structures:
            return Features.empty(self.dim)
        rows = []
        for number, atoms in enumerate(structures):
            unknown = sorted(set(atoms.numbers.tolist()) - set(self.elements))
            if unknown:
                raise FeatureError(
                    f"structure {number} holds {', '.join(chemical_symbols[z] for z in unknown)}",
                    expected="only " + ", ".join(chemical_symbols[z] for z in self.elements),
                    todo="name all elements of the pool when the feature map is made",
                )
            spectra = (self._periodic if atoms.pbc.any() else self._soap).create(atoms)
            rows.append(np.asarray(getattr(spectra, self.pool)(axis=0), dtype=np.float64))
        return Features.one_row_each(normalised(np.stack(rows), structures, self.normalise))
