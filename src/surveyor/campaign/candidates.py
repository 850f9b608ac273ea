"""The pool of a campaign, with the features of everything that the posterior sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from ase import Atoms

from surveyor.acquisition import Featurised
from surveyor.campaign.features import stored_features
from surveyor.campaign.given import Given
from surveyor.errors import CampaignError, notice
from surveyor.progress import Progress
from surveyor.structures.copies import CopyFinder
from surveyor.structures.identity import structure_id
from surveyor.structures.label_keys import acted_on, is_isolated_atom, say_what_was_taken_off
from surveyor.structures.source import StructureFile
from surveyor.types import Features


class CandidatePool:
    """The pool is gone through once for all that is to be known of it; picks are read as they are needed.

    Args:
        given: pool, start set and test set of the campaign.
        progress: told where the work stands.
    """

    def __init__(self, given: Given, progress: Progress) -> None:
        self._given = given
        self._progress = progress
        self._isolated: set[str] = set()
        self._elements: set[int] = set()
        self._acting: dict[str, dict[int, object]] = {}
        self._copies = CopyFinder(given.start.values())

    @cached_property
    def featurised(self) -> Featurised:
        """Features and ids of the whole pool.

        Raises:
            CampaignError: the pool is empty.
        """
        first = self._given.plan.pool
        added = sum(entry.frames for entry in self._given.added_to_pool)
        count = first.count() if isinstance(first, StructureFile) else None
        self._progress.start("features of the pool", None if count is None else count + added)
        pool = stored_features(
            self._given.folder,
            self._given.pool_parts,
            self._given.plan.feature_map,
            look=self._look,
            on_progress=self._progress.advance,
        )
        self._progress.finish(f"{len(pool)} structures")
        if not len(pool):
            raise CampaignError("the pool is empty", expected="at least one structure")
        say_what_was_taken_off(
            "the pool", {key: list(values.values()) for key, values in self._acting.items()}
        )
        if self._isolated:
            notice(
                f"the pool: {len(self._isolated)} isolated atoms (config_type=IsolatedAtom) are never picked"
            )
        return pool

    def _look(self, place: int, atoms: Atoms) -> None:
        self._elements.update(atoms.numbers.tolist())
        self._copies.add(atoms)
        for key in acted_on(atoms):
            self._acting.setdefault(key, {})[place] = atoms.info.get(key)
        if is_isolated_atom(atoms):
            self._isolated.add(structure_id(atoms))

    @property
    def isolated(self) -> set[str]:
        """Structures that are named isolated atoms."""
        _ = self.featurised
        return self._isolated

    @cached_property
    def copies(self) -> set[str]:
        """Near copies of other structures, or of those of the start set: labels of the same thing."""
        _ = self.featurised
        return self._copies.left_out(self._given.pool)

    @property
    def elements(self) -> set[int]:
        """Atomic numbers that occur."""
        _ = self.featurised
        return self._elements

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.featurised.ids)}

    @cached_property
    def _start(self) -> Featurised:
        return self._of_parts(self._given.start_parts)

    @cached_property
    def test(self) -> Featurised:
        """Features of the test structures."""
        return self._of_parts({"test": self._given.plan.test})

    @cached_property
    def target(self) -> Featurised | None:
        """Features of the structures that the rule aims at; None where it aims at the pool."""
        target = self._given.plan.target
        return self._of_parts({"target": target}) if target else None

    def _of_parts(self, parts: Mapping[str, Sequence[Atoms]]) -> Featurised:
        return stored_features(self._given.folder, parts, self._given.plan.feature_map)

    def features_of(self, names: Iterable[str]) -> Featurised:
        """Features of labelled structures, whether they came from the pool or from the start set."""
        names = list(names)
        known = [name for name in names if name in self._place]
        others = [name for name in names if name not in self._place]
        parts = [self.featurised.features.take([self._place[name] for name in known])]
        if others:
            start = {name: index for index, name in enumerate(self._start.ids)}
            parts.append(self._start.features.take([start[name] for name in others]))
        return Featurised(Features.concatenate(parts), (*known, *others))

    def left(self, taken: Iterable[str]) -> int:
        """Number of different pool structures that are not taken."""
        return len(self._place.keys() - set(taken))

    def take(self, chosen: Mapping[str, int]) -> dict[str, Atoms]:
        """The structures at these positions, by id; see `structures_at`."""
        return structures_at(self._given.pool, chosen)


def structures_at(structures: Iterable[Atoms], chosen: Mapping[str, int]) -> dict[str, Atoms]:
    """The structures of a pool at these positions, by id.

    Raises:
        CampaignError: the pool is not the one that they were chosen from.
    """
    wanted = set(chosen.values())
    found: dict[int, Atoms] = {}
    for index, atoms in enumerate(structures if wanted else ()):
        if index in wanted:
            found[index] = atoms
            if len(found) == len(wanted):
                break
    for name, index in chosen.items():
        if index not in found or structure_id(found[index]) != name:
            raise CampaignError(
                f"pool structure {index} is not the one that the campaign chose",
                expected="the pool that the campaign was started with",
                todo="restore the pool file; labels already paid for are safe in the journal",
            )
    return {name: found[index] for name, index in chosen.items()}
