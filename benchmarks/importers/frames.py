"""What a task is made of, and what the importers share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from surveyor.errors import ConfigError
from surveyor.regression import least_squares
from surveyor.structures.composition import counts, elements_of
from surveyor.structures.labels import ENERGY_KEY, FORCES_KEY
from surveyor.types import IndexArray

ROUND = 10.0
"""eV; reference energies are rounded to this, so that they carry no knowledge of unlabelled frames."""


@dataclass(frozen=True, eq=False)
class Frames:
    """The structures of a task.

    | variable | meaning                                                                                |
    |----------|----------------------------------------------------------------------------------------|
    | pool     | what may be labelled; carries its labels, or none of its frames does                   |
    | test     | never trained on; its forces may be missing                                            |
    | target   | unlabelled: where a user would aim; none of them is a test frame                       |
    | latent   | frames of one reaction of three or more kinds, for the map of the latent space         |
    """

    pool: Sequence[Atoms]
    test: Sequence[Atoms]
    target: Sequence[Atoms]
    latent: Sequence[Atoms] = ()


@dataclass(frozen=True, eq=False)
class Groups:
    """Frames by reaction and kind, in the order of the file."""

    members: Mapping[tuple[str, str], list[Atoms]] = field(default_factory=dict)

    @classmethod
    def of(cls, frames: Iterable[Atoms]) -> Groups:
        members: dict[tuple[str, str], list[Atoms]] = defaultdict(list)
        for atoms in frames:
            members[str(atoms.info["reaction"]), str(atoms.info["config_type"])].append(atoms)
        return cls(dict(members))

    @property
    def reactions(self) -> list[str]:
        return sorted({reaction for reaction, _ in self.members})

    def __getitem__(self, key: tuple[str, str]) -> list[Atoms]:
        return self.members[key]


def sample(frames: Sequence[Atoms], count: int, rng: np.random.Generator, what: str) -> list[Atoms]:
    """A seeded sample without replacement, in the order of the file.

    Raises:
        ConfigError: there are fewer frames.
    """
    if count > len(frames):
        raise ConfigError(f"{what}: {count} frames asked for", expected=f"at most {len(frames)}")
    return [frames[i] for i in np.sort(rng.choice(len(frames), count, replace=False))]


def evenly(frames: Sequence[Atoms], count: int) -> list[Atoms]:
    """So many frames, evenly spaced, without the first and the last."""
    places: IndexArray = np.unique(
        np.linspace(0, len(frames) - 1, min(count, len(frames) - 2) + 2).round().astype(np.intp)
    )
    return [frames[i] for i in places[1:-1]]


def rattled(atoms: Atoms, width: float, rng: np.random.Generator, kind: str) -> Atoms:
    """A copy with Gaussian displacements of `width` Å in every coordinate, and without labels."""
    copy = Atoms(atoms.numbers, positions=atoms.positions + rng.normal(0.0, width, atoms.positions.shape))
    copy.info = {
        key: value for key, value in atoms.info.items() if key in ("reaction", "total_charge", "total_spin")
    }
    copy.info["config_type"] = kind
    return copy


def calm(frames: Iterable[Atoms], max_force: float) -> list[Atoms]:
    """Frames without a force component above `max_force` eV/Å."""
    return [atoms for atoms in frames if np.abs(atoms.arrays[FORCES_KEY]).max() < max_force]


def near_zero(*parts: Sequence[Atoms]) -> None:
    """Subtract a round number (a multiple of 10 eV) for every element from the energies, in place.

    Total energies of −20,000 eV leave a float32 model no digit for meV; the same constants for every frame
    of an element change nothing that the re-fit of reference energies does not.
    """
    frames = [atoms for part in parts for atoms in part if ENERGY_KEY in atoms.info]
    numbers = counts(frames, elements_of(frames))
    energies = np.array([float(atoms.info[ENERGY_KEY]) for atoms in frames])
    references = ROUND * np.round(least_squares(numbers, energies) / ROUND)
    for atoms, energy in zip(frames, energies - numbers @ references, strict=True):
        atoms.info[ENERGY_KEY] = float(energy)
