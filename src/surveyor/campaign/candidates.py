"""The pool of a campaign, with the features of everything that the posterior sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from ase import Atoms

from surveyor.acquisition import Featurised, featurise
from surveyor.errors import CampaignError, notice
from surveyor.progress import Progress
from surveyor.structures.copies import copies_left_out
from surveyor.structures.identity import structure_id
from surveyor.structures.label_keys import acted_on, is_isolated_atom, say_what_was_taken_off
from surveyor.structures.source import StructureFile
from surveyor.types import FeatureMap, Features


class CandidatePool:
    """Pool structures are read as they are needed; their features are computed once.

    Args:
        structures: the pool, iterated more than once.
        outside: labelled structures that need not be in the pool, by id.
    """

    def __init__(
        self,
        structures: Iterable[Atoms],
        outside: Mapping[str, Atoms],
        feature_map: FeatureMap,
        progress: Progress,
    ) -> None:
        self._structures = structures
        self._outside = outside
        self._feature_map = feature_map
        self._progress = progress
        self._isolated: set[str] = set()
        self._elements: set[int] = set()

    @cached_property
    def featurised(self) -> Featurised:
        """Features and ids of the whole pool.

        Raises:
            CampaignError: the pool is empty.
        """
        total = self._structures.count() if isinstance(self._structures, StructureFile) else None
        self._progress.start("features of the pool", total)
        pool = featurise(self._looked_at(), self._feature_map, on_progress=self._progress.advance)
        self._progress.finish(f"{len(pool)} structures")
        if not len(pool):
            raise CampaignError("the pool is empty", expected="at least one structure")
        return pool

    def _looked_at(self) -> Iterator[Atoms]:
        acting: dict[str, list[object]] = {}
        for atoms in self._structures:
            self._elements.update(atoms.numbers.tolist())
            for key in acted_on(atoms):
                acting.setdefault(key, []).append(atoms.info.get(key))
            if is_isolated_atom(atoms):
                self._isolated.add(structure_id(atoms))
            yield atoms
        say_what_was_taken_off("the pool", acting)
        if self._isolated:
            notice(
                f"the pool: {len(self._isolated)} isolated atoms (config_type=IsolatedAtom) are never picked"
            )

    @property
    def isolated(self) -> set[str]:
        """Structures that are named isolated atoms."""
        _ = self.featurised
        return self._isolated

    @cached_property
    def copies(self) -> set[str]:
        """Near copies of other structures, or of those outside: labels of the same thing."""
        return copies_left_out(self._structures, self._outside.values())

    @property
    def elements(self) -> set[int]:
        """Atomic numbers that occur."""
        _ = self.featurised
        return self._elements

    @cached_property
    def _featurised_outside(self) -> Featurised:
        return featurise(self._outside.values(), self._feature_map)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.featurised.ids)}

    def features_of(self, names: Iterable[str]) -> Featurised:
        """Features of labelled structures, whether they came from the pool or from outside."""
        names = list(names)
        known = [name for name in names if name in self._place]
        others = [name for name in names if name not in self._place]
        parts = [self.featurised.features.take([self._place[name] for name in known])]
        if others:
            outside = {name: index for index, name in enumerate(self._featurised_outside.ids)}
            parts.append(self._featurised_outside.features.take([outside[name] for name in others]))
        return Featurised(Features.concatenate(parts), (*known, *others))

    def left(self, taken: Iterable[str]) -> int:
        """Number of different pool structures that are not taken."""
        return len(set(self.featurised.ids) - set(taken))

    def take(self, chosen: Mapping[str, int]) -> dict[str, Atoms]:
        """The structures at these positions, by id; see `structures_at`."""
        return structures_at(self._structures, chosen)


def structures_at(structures: Iterable[Atoms], chosen: Mapping[str, int]) -> dict[str, Atoms]:
    """The structures of a pool at these positions, by id.

    Raises:
        CampaignError: the pool is not the one that they were chosen from.
    """
    found = _at(structures, list(chosen.values()))
    for name, index in chosen.items():
        if index not in found or structure_id(found[index]) != name:
            raise CampaignError(
                f"pool structure {index} is not the one that the campaign chose",
                expected="the pool that the campaign was started with",
                todo="restore the pool file; labels already paid for are safe in the journal",
            )
    return {name: found[index] for name, index in chosen.items()}


def _at(structures: Iterable[Atoms], indices: Sequence[int]) -> dict[int, Atoms]:
    """The structures at these positions of a stream, as far as they are there."""
    wanted = set(indices)
    found: dict[int, Atoms] = {}
    if wanted:
        for index, atoms in enumerate(structures):
            if index in wanted:
                found[index] = atoms
                if len(found) == len(wanted):
                    break
    return found
