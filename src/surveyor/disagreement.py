"""How far the predictions of several potentials lie apart, structure by structure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np
from ase import Atoms

from surveyor.errors import PotentialError
from surveyor.structures import check_elements
from surveyor.types import Float64Array, Labels, Potential

UNITS: dict[str, str] = {"energies": "eV/atom", "forces": "eV/Å"}
BLOCK = 256


def check_quantity(on: str) -> None:
    """Raise PotentialError unless it is `energies` or `forces`."""
    if on not in UNITS:
        raise PotentialError(f"a committee on {on!r}", expected=" or ".join(UNITS))


def shared_elements(committee: Sequence[Potential]) -> tuple[int, ...]:
    """Atomic numbers that all potentials of a committee know, ascending.

    Raises:
        PotentialError: fewer than two potentials, the same one twice, or no element in common.
    """
    if len(committee) < 2:
        raise PotentialError(
            f"a committee of {len(committee)}",
            expected="two potentials or more",
            todo="fine-tune the same potential from other seeds, or on other parts of the labels",
        )
    prints = [potential.fingerprint for potential in committee]
    for number, name in enumerate(prints):
        if name in prints[:number]:
            raise PotentialError(
                f"members {prints.index(name)} and {number} of the committee are the same potential",
                expected="potentials that differ in their weights: equal ones never disagree",
            )
    shared = set(committee[0].elements).intersection(*(potential.elements for potential in committee[1:]))
    if not shared:
        raise PotentialError(
            "a committee whose potentials have no element in common",
            expected="potentials that all know the elements of the pool",
        )
    return tuple(sorted(shared))


def spread(votes: Sequence[Sequence[Labels]], on: str = "forces") -> Float64Array:
    """Standard deviation of K predictions for every structure (structures,).

        σ_E(x) = [mean over k of (E_k − Ē)²]^½ / n                      eV/atom
        σ_F(x) = max over atoms a of [mean over k of |F_ka − F̄_a|²]^½   eV/Å

    | symbol   | variable | shape           | meaning                                         | unit     |
    |----------|----------|-----------------|-------------------------------------------------|----------|
    | E_k, F_k | votes    | (K, structures) | energy and forces (n, 3) that member k predicts | eV, eV/Å |
    |          | on       |                 | `energies` or `forces`                          |          |

    Raises:
        PotentialError: another `on`.

    Source: Seung, Opper & Sompolinsky, COLT 1992, doi:10.1145/130385.130417; Zhang et al., Phys. Rev. Mater.
    3 (2019) 023804, doi:10.1103/PhysRevMaterials.3.023804 (largest deviation of the forces).
    """
    check_quantity(on)
    each = list(zip(*votes, strict=True))
    if on == "energies":
        found = [np.std([label.energy for label in vote]) / len(vote[0].forces) for vote in each]
    else:
        found = [np.sqrt(np.var([label.forces for label in vote], axis=0).sum(axis=1).max()) for vote in each]
    return np.array(found, dtype=np.float64)


def disagreement(
    committee: Sequence[Potential],
    structures: Iterable[Atoms],
    on: str = "forces",
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Float64Array:
    """`spread` of the predictions of K ≥ 2 different potentials (structures,), eV/atom or eV/Å.

    Structures are gone through once, a block at a time.

    Raises:
        PotentialError: fewer than two potentials, one of them twice, no common element, another `on`, or a
            prediction that is not finite.
        StructureError: a structure holds an element that a potential does not know.
    """
    check_quantity(on)
    elements = shared_elements(committee)
    parts = [np.zeros(0)]
    done = 0
    stream = iter(structures)
    while block := list(islice(stream, BLOCK)):
        for number, atoms in enumerate(block, start=done):
            check_elements(atoms, elements, f"structure {number}")
        parts.append(spread([potential.predict(block) for potential in committee], on))
        done += len(block)
        if on_progress is not None:
            on_progress(len(block))
    return np.concatenate(parts)
