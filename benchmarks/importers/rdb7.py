"""`rdb7-…`: organic reactions, many, of one family, or one; without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs

from importers.frames import Frames, Groups, rattled
from importers.paths import along, coarse_path
from surveyor.errors import ConfigError
from surveyor.structures import read_structures

STRETCH = 1.25
"""Atoms closer than this times the sum of their covalent radii are bonded."""


@dataclass(frozen=True)
class Sizes:
    """What a task of RDB7 holds.

    | field          | meaning                                                                          |
    |----------------|----------------------------------------------------------------------------------|
    | reactions      | reactions of the pool                                                            |
    | frames         | pool frames of each                                                              |
    | path_share     | share of them at random places along the path, interpolated through the          |
    |                | transition state; the others lie near reactant and product                       |
    | test_reactions | other reactions                                                                  |
    | test_frames    | frames of each, evenly spaced along its path                                     |
    | targets        | target geometries per test reaction, interpolated between its ends alone         |
    | max_atoms      | larger reactions are left out                                                    |
    | widths         | Å, of the Gaussian displacements of pool frames, in turn                         |
    """

    reactions: int = 200
    frames: int = 10
    path_share: float = 0.1
    test_reactions: int = 60
    test_frames: int = 5
    targets: int = 3
    max_atoms: int = 12
    widths: tuple[float, ...] = (0.02, 0.05)


def rdb7_paths(data: Path, *, seed: int = 0, sizes: Sizes = Sizes()) -> Frames:
    """Pool and test are of different reactions.

    Args:
        data: folder of rdb7-geometries.extxyz.
    """
    rng = np.random.default_rng(seed)
    groups = _read(data, sizes.max_atoms)
    order = rng.permutation(groups.reactions).tolist()
    needed = sizes.reactions + sizes.test_reactions
    _check(needed, len(order))
    of_test = order[sizes.reactions : needed]
    return _frames(groups, order[: sizes.reactions], dict.fromkeys(of_test, "path"), sizes, rng)


def rdb7_biased(data: Path, *, seed: int = 0, sizes: Sizes = Sizes(), missing: float = 0.4) -> Frames:
    """Whole families of reactions are missing in the pool; they make half of the test.

    Args:
        data: folder of rdb7-geometries.extxyz.
        missing: share of the reactions whose families the pool does not hold.
    """
    rng = np.random.default_rng(seed)
    groups = _read(data, sizes.max_atoms)
    family = {name: reaction_family(groups[name, "r"][0], groups[name, "p"][0]) for name in groups.reactions}
    absent: set[str] = set()
    names = np.array(list(family.values()))
    for candidate in rng.permutation(np.unique(names)):
        if np.isin(names, list(absent)).mean() >= missing:
            break
        absent.add(str(candidate))
    order = rng.permutation(groups.reactions).tolist()
    seen = [name for name in order if family[name] not in absent]
    unseen = [name for name in order if family[name] in absent]
    half = sizes.test_reactions // 2
    _check(sizes.reactions + sizes.test_reactions - half, len(seen))
    _check(half, len(unseen))
    test = dict.fromkeys(unseen[:half], "path-unseen-family")
    rest = seen[sizes.reactions : sizes.reactions + sizes.test_reactions - half]
    test |= dict.fromkeys(rest, "path-seen-family")
    return _frames(groups, seen[: sizes.reactions], test, sizes, rng)


def rdb7_family(data: Path, *, seed: int = 0, sizes: Sizes = Sizes()) -> Frames:
    """Reactions of the largest family; pool and test are of different ones.

    Args:
        data: folder of rdb7-geometries.extxyz.
    """
    rng = np.random.default_rng(seed)
    groups = _read(data, sizes.max_atoms)
    family = {name: reaction_family(groups[name, "r"][0], groups[name, "p"][0]) for name in groups.reactions}
    names, members = np.unique(list(family.values()), return_counts=True)
    largest = str(names[members.argmax()])
    order = rng.permutation([name for name in groups.reactions if family[name] == largest]).tolist()
    needed = sizes.reactions + sizes.test_reactions
    _check(needed, len(order))
    of_test = order[sizes.reactions : needed]
    return _frames(groups, order[: sizes.reactions], dict.fromkeys(of_test, "path"), sizes, rng)


def rdb7_reaction(
    data: Path,
    *,
    seed: int = 0,
    pool: int = 800,
    test: int = 120,
    blocks: int = 4,
    sizes: Sizes = Sizes(),
) -> Frames:
    """One reaction, frames near its path alone; `blocks` pieces of the path, 5 % each, are the test's.

    Args:
        data: folder of rdb7-geometries.extxyz.
    """
    rng = np.random.default_rng(seed)
    groups = _read(data, sizes.max_atoms)
    path = _waypoints(groups, str(rng.choice(groups.reactions)))
    starts = (np.arange(blocks) + 0.5) / blocks

    def near(count: int, inside: bool, widths: Sequence[float]) -> list[Atoms]:
        places = rng.random(20 * blocks * count)
        held = ((places[:, None] > starts) & (places[:, None] < starts + 0.05)).any(axis=1)
        chosen = np.sort(places[held == inside][:count])
        frames = along(path, chosen)
        return [rattled(a, widths[i % len(widths)], rng, "path") for i, a in enumerate(frames)]

    return Frames(near(pool, False, sizes.widths), near(test, True, sizes.widths), [])


def reaction_family(reactant: Atoms, product: Atoms) -> str:
    """Element pairs of the bonds that break and form, such as `C-H|H-O`."""
    before, after = _bonds(reactant), _bonds(product)
    symbols = reactant.get_chemical_symbols()

    def pairs(bonds: set[tuple[int, int]]) -> str:
        return ",".join(sorted({"-".join(sorted((symbols[i], symbols[j]))) for i, j in bonds}))

    return f"{pairs(before - after)}|{pairs(after - before)}"


def _bonds(atoms: Atoms) -> set[tuple[int, int]]:
    radii = np.array(natural_cutoffs(atoms, mult=STRETCH))
    near = atoms.get_all_distances() < radii[:, None] + radii
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True)}


def _read(data: Path, max_atoms: int) -> Groups:
    frames = read_structures(data / "rdb7-geometries.extxyz")
    return Groups.of(atoms for atoms in frames if len(atoms) <= max_atoms)


def _check(needed: int, there: int) -> None:
    if needed > there:
        raise ConfigError(f"{needed} reactions asked for", expected=f"at most {there}")


def _frames(
    groups: Groups,
    of_pool: Sequence[str],
    of_test: dict[str, str],
    sizes: Sizes,
    rng: np.random.Generator,
) -> Frames:
    on_path = whole_shares(sizes.frames * sizes.path_share, len(of_pool))
    pool: list[Atoms] = []
    for name, count in zip(of_pool, on_path, strict=True):
        ends = [(groups[name, "r"][0], "reactant"), (groups[name, "p"][0], "product")]
        for number in range(sizes.frames - count):
            atoms, kind = ends[number % 2]
            pool.append(rattled(atoms, sizes.widths[(number // 2) % len(sizes.widths)], rng, kind))
        if count:
            for atoms in along(_waypoints(groups, name), np.sort(rng.random(count))):
                pool.append(rattled(atoms, sizes.widths[0], rng, "path"))
    test = [
        rattled(atoms, sizes.widths[0], rng, kind)
        for name, kind in of_test.items()
        for atoms in along(_waypoints(groups, name), (np.arange(sizes.test_frames) + 0.5) / sizes.test_frames)
    ]
    target = [
        image
        for name in of_test
        for image in coarse_path(groups[name, "r"][0], groups[name, "p"][0], sizes.targets)
    ]
    shown = dict(zip(("reactant", "ts", "product"), _waypoints(groups, next(iter(of_test))), strict=True))
    latent = [rattled(atoms, 0.05, rng, kind) for kind, atoms in shown.items() for _ in range(40)]
    return Frames(pool, test, target, latent)


def _waypoints(groups: Groups, name: str) -> list[Atoms]:
    return [groups[name, kind][0] for kind in ("r", "ts", "p")]


def whole_shares(each: float, count: int) -> list[int]:
    """Whole numbers whose running total follows `each` times the number so far."""
    totals = np.floor(each * np.arange(count + 1) + 0.5 + 1e-9).astype(int)
    return [int(step) for step in np.diff(totals)]
