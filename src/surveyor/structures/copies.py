"""Near copies: frames that differ by less than programs print are one structure, paid for once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, product

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from surveyor.errors import notice
from surveyor.structures.comparison import compare
from surveyor.structures.identity import structure_id, total_charge, total_spin
from surveyor.structures.neighbours import full_cell
from surveyor.types import Float64Array

NEAR = 1e-5
"""Å; what no program prints."""

WAVES = 8
BOXED = 3
"""Of the waves, those that sort frames into boxes."""
SPREAD = 6.0
"""Standard deviations of a wave's amplitude under displacements of 1e-5 Å that still count as near."""

Kind = tuple[object, ...]


def near_copies(structures: Iterable[Atoms], beside: Iterable[Atoms] = ()) -> dict[str, str]:
    """Structures within 1e-5 Å of another one: id → id of the one that stands for them.

    Atoms may be in another order or in another periodic image. The structure of the lowest id stands for its
    near copies, wherever it is in the file; those of `beside` go first. Exact repeats have one id and are not
    looked at.

    Time and memory grow with the number of frames: amplitudes of random waves, Σ_i w(Z_i) cos(q·x_i + b),
    which neither order nor periodic image changes, tell most frames apart; only the others are compared.

    Args:
        structures: valid ones; gone through again where some look alike.
        beside: the same, of those that are there already (labelled).
    """
    finder = CopyFinder(beside)
    for atoms in structures:
        finder.add(atoms)
    return finder.found(structures)


class CopyFinder:
    """Near copies in a stream of structures that is gone through for other ends, too; see `near_copies`.

    Args:
        beside: structures that are there already (labelled).
    """

    def __init__(self, beside: Iterable[Atoms] = ()) -> None:
        self._beside = beside
        self._kinds: dict[Kind, dict[str, tuple[bool, Float64Array]]] = defaultdict(dict)
        for atoms in beside:
            self._keep(atoms, later=False)

    def add(self, atoms: Atoms) -> None:
        """Look at the next structure; a second time, nothing happens."""
        self._keep(atoms, later=True)

    def _keep(self, atoms: Atoms, *, later: bool) -> None:
        kind, waves = _sketch(atoms)
        self._kinds[kind].setdefault(structure_id(atoms), (later, waves))

    def found(self, structures: Iterable[Atoms]) -> dict[str, str]:
        """id → id of the one that stands for it.

        Args:
            structures: those that were added; gone through again where some look alike.
        """
        suspects = [found for frames in self._kinds.values() if len(found := _suspects(frames)) > 1]
        if not suspects:
            return {}
        wanted = set(chain.from_iterable(suspects))
        both = chain(structures, self._beside)
        held = {name: atoms for atoms in both if (name := structure_id(atoms)) in wanted}
        return dict(chain.from_iterable(_matched(frames, held) for frames in suspects))

    def left_out(self, structures: Iterable[Atoms]) -> set[str]:
        """Ids of the near copies, which are no candidates; a notice says how many they are."""
        found = self.found(structures)
        if found:
            notice(
                f"{len(found)} structures of the pool are near copies, within {NEAR:g} Å of another one or "
                "of a labelled one: one of each is a candidate"
            )
        return set(found)


def copies_left_out(structures: Iterable[Atoms], beside: Iterable[Atoms] = ()) -> set[str]:
    """Ids of the near copies of a pool; see `CopyFinder.left_out`.

    Args:
        beside: labelled structures; what is within 1e-5 Å of one is a copy of it.
    """
    finder = CopyFinder(beside)
    for atoms in structures:
        finder.add(atoms)
    return finder.left_out(structures)


@lru_cache(maxsize=1)
def _waves() -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """Seeded directions and whole numbers (waves, 3), phases (waves,) and weights (waves, elements)."""
    rng = np.random.default_rng(0)
    whole = rng.integers(1, 4, size=(WAVES, 3)) * rng.choice([-1.0, 1.0], size=(WAVES, 3))
    return rng.normal(size=(WAVES, 3)), whole, rng.uniform(0, 6, WAVES), rng.uniform(0.5, 1.5, (WAVES, 119))


def _sketch(atoms: Atoms) -> tuple[Kind, Float64Array]:
    """What near copies share, and amplitudes (waves,) that differ by less than 1 between them."""
    directions, whole, phases, weights = _waves()
    numbers, pbc = np.asarray(atoms.numbers), np.asarray(atoms.pbc, dtype=bool)
    kind = (np.sort(numbers).tobytes(), pbc.tobytes(), total_charge(atoms), total_spin(atoms))
    vectors = directions
    if pbc.any():  # of the lattice's period along periodic directions
        periodic = np.asarray(atoms.cell.array)[pbc]
        inverse = np.linalg.inv(full_cell(atoms.cell.array, pbc, atoms.positions, 1.0))
        across = directions - directions @ np.linalg.pinv(periodic) @ periodic
        vectors = 2 * np.pi * whole[:, pbc] @ inverse[:, pbc].T + across
    amplitudes = (weights[:, numbers] * np.cos(vectors @ atoms.positions.T + phases[:, None])).sum(axis=1)
    # The displacements of rounding are independent: their effects add up as √n.
    moved = np.linalg.norm(vectors, axis=1) * NEAR * np.sqrt(len(numbers))
    return kind, np.asarray(amplitudes / (SPREAD * moved))


def _suspects(frames: dict[str, tuple[bool, Float64Array]]) -> dict[str, tuple[bool, Float64Array]]:
    """Those with another one within 1 along every wave."""
    if len(frames) < 2:
        return {}
    waves = np.stack([waves for _, waves in frames.values()])
    near = np.isfinite(cKDTree(waves).query(waves, k=2, p=np.inf, distance_upper_bound=1.0)[0][:, 1])
    return {name: frame for (name, frame), alike in zip(frames.items(), near, strict=True) if alike}


def _matched(
    frames: dict[str, tuple[bool, Float64Array]], held: dict[str, Atoms]
) -> Iterator[tuple[str, str]]:
    """(id, id of the one that is kept) of every near copy."""
    boxes: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, (later, waves) in sorted(frames.items(), key=lambda frame: (frame[1][0], frame[0])):
        sides = [{int(np.floor((wave + side) / 4)) for side in (-1, 0, 1)} for wave in waves[:BOXED]]
        near = (
            other
            for box in product(*sides)
            for other in boxes.get(box, ())
            if (np.abs(frames[other][1] - waves) <= 1).all() and _same(held[other], held[name])
        )
        original = next(near, None)
        if original is None or not later:
            boxes[tuple(int(np.floor(wave / 4)) for wave in waves[:BOXED])].append(name)
        else:
            yield name, original


def _same(a: Atoms, b: Atoms) -> bool:
    """Whether they are near copies: of the cell and, atom by atom, in place, moments and charges."""
    order = compare(a, b, NEAR).order
    return order is not None and all(
        np.allclose(of(a), of(b)[order], rtol=0, atol=NEAR)
        for of in (Atoms.get_initial_magnetic_moments, Atoms.get_initial_charges)
    )
