"""`rdb7-paths` and `rdb7-biased`: many organic reactions, labelled with GFN2-xTB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs
from pydantic import Field, PositiveFloat, PositiveInt

from surveyor.config import LabelConfig
from surveyor.errors import ConfigError
from surveyor.lab.benchmark.tasks.frames import Frames, Groups, rattled
from surveyor.lab.benchmark.tasks.paths import along, coarse_path
from surveyor.settings import Settings
from surveyor.structures import read_structures

STRETCH = 1.25
"""Atoms closer than this times the sum of their covalent radii are bonded."""


class RDB7Options(Settings):
    """Options of `rdb7-paths`.

    | key            | meaning                                                                          |
    |----------------|----------------------------------------------------------------------------------|
    | data           | folder of rdb7-geometries.extxyz                                                 |
    | reactions      | reactions of the pool                                                            |
    | frames         | pool frames of each                                                              |
    | path_share     | share of them at random places along the path, interpolated through the          |
    |                | transition state; the others lie near reactant and product                       |
    | test_reactions | other reactions                                                                  |
    | test_frames    | frames of each, evenly spaced along its path                                     |
    | targets        | target geometries a test reaction, interpolated between its ends alone           |
    | max_atoms      | larger reactions are left out                                                    |
    | widths         | Å, of the Gaussian displacements of pool frames, in turn                         |
    | labels         | the calculator                                                                   |
    """

    data: Path
    reactions: PositiveInt = 200
    frames: PositiveInt = 10
    path_share: float = Field(default=0.1, ge=0, le=1)
    test_reactions: PositiveInt = 60
    test_frames: PositiveInt = 5
    targets: PositiveInt = 3
    max_atoms: PositiveInt | None = None
    widths: tuple[PositiveFloat, ...] = (0.02, 0.05)
    labels: LabelConfig = LabelConfig()


class BiasedOptions(RDB7Options):
    """Options of `rdb7-biased`; those of `rdb7-paths`, and

    | key     | meaning                                                                                 |
    |---------|-----------------------------------------------------------------------------------------|
    | missing | share of the reactions whose families the pool does not hold; half of the test is theirs |
    """

    missing: float = Field(default=0.4, gt=0, lt=1)


def rdb7_paths(options: RDB7Options, seed: int) -> Frames:
    """Pool and test are of different reactions."""
    rng = np.random.default_rng(seed)
    groups = _read(options)
    order = rng.permutation(groups.reactions).tolist()
    needed = options.reactions + options.test_reactions
    _check(needed, len(order))
    of_test = order[options.reactions : needed]
    return _frames(groups, order[: options.reactions], dict.fromkeys(of_test, "path"), options, rng)


def rdb7_biased(options: BiasedOptions, seed: int) -> Frames:
    """Whole families of reactions are missing in the pool; they make half of the test."""
    rng = np.random.default_rng(seed)
    groups = _read(options)
    family = {name: reaction_family(groups[name, "r"][0], groups[name, "p"][0]) for name in groups.reactions}
    absent: set[str] = set()
    names = np.array(list(family.values()))
    for candidate in rng.permutation(np.unique(names)):
        if np.isin(names, list(absent)).mean() >= options.missing:
            break
        absent.add(str(candidate))
    order = rng.permutation(groups.reactions).tolist()
    seen = [name for name in order if family[name] not in absent]
    unseen = [name for name in order if family[name] in absent]
    half = options.test_reactions // 2
    _check(options.reactions + options.test_reactions - half, len(seen))
    _check(half, len(unseen))
    test = dict.fromkeys(unseen[:half], "path-unseen-family")
    rest = seen[options.reactions : options.reactions + options.test_reactions - half]
    test |= dict.fromkeys(rest, "path-seen-family")
    return _frames(groups, seen[: options.reactions], test, options, rng)


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


def _read(options: RDB7Options) -> Groups:
    frames = read_structures(options.data / "rdb7-geometries.extxyz")
    return Groups.of(a for a in frames if options.max_atoms is None or len(a) <= options.max_atoms)


def _check(needed: int, there: int) -> None:
    if needed > there:
        raise ConfigError(f"{needed} reactions asked for", expected=f"at most {there}")


def _frames(
    groups: Groups,
    of_pool: Sequence[str],
    of_test: dict[str, str],
    options: RDB7Options,
    rng: np.random.Generator,
) -> Frames:
    on_path = _shared(options.frames * options.path_share, len(of_pool))
    pool: list[Atoms] = []
    for name, count in zip(of_pool, on_path, strict=True):
        ends = [(groups[name, "r"][0], "reactant"), (groups[name, "p"][0], "product")]
        for number in range(options.frames - count):
            atoms, kind = ends[number % 2]
            pool.append(rattled(atoms, options.widths[(number // 2) % len(options.widths)], rng, kind))
        if count:
            for atoms in along(_waypoints(groups, name), np.sort(rng.random(count))):
                pool.append(rattled(atoms, options.widths[0], rng, "path"))
    test = [
        rattled(atoms, options.widths[0], rng, kind)
        for name, kind in of_test.items()
        for atoms in along(
            _waypoints(groups, name), (np.arange(options.test_frames) + 0.5) / options.test_frames
        )
    ]
    target = [
        image
        for name in of_test
        for image in coarse_path(groups[name, "r"][0], groups[name, "p"][0], options.targets)
    ]
    shown = dict(zip(("reactant", "ts", "product"), _waypoints(groups, next(iter(of_test))), strict=True))
    latent = [rattled(atoms, 0.05, rng, kind) for kind, atoms in shown.items() for _ in range(40)]
    return Frames(pool, test, target, latent=latent, labels=options.labels)


def _waypoints(groups: Groups, name: str) -> list[Atoms]:
    return [groups[name, kind][0] for kind in ("r", "ts", "p")]


def _shared(each: float, count: int) -> list[int]:
    """Whole numbers whose running total follows `each` times the number so far."""
    totals = np.floor(each * np.arange(count + 1) + 0.5 + 1e-9).astype(int)
    return [int(step) for step in np.diff(totals)]
