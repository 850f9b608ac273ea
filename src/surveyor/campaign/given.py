"""What a campaign was given, at its start and since."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from ase import Atoms
from ase.data import chemical_symbols

from surveyor.campaign.extension import (
    LABELS,
    POOL,
    Extension,
    LongerPool,
    check_extensions,
    labels_in,
    pool_parts,
    read_extensions,
)
from surveyor.campaign.inputs import INPUTS, check_inputs
from surveyor.campaign.own_potentials import record_old_ones
from surveyor.campaign.plan import Plan
from surveyor.errors import notice
from surveyor.structures.identity import structure_id
from surveyor.structures.label_keys import LabelledFrames, reference_energies


class Given:
    """Pool, start set and isolated atoms of a plan, with what was added to the campaign.

    Raises:
        CampaignError: an input or an addition holds something else than is on record.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        if not (folder / INPUTS).is_file():
            record_old_ones(folder)
        check_inputs(folder, plan.sources)
        check_extensions(folder)
        self._added = read_extensions(folder)

    @property
    def added_to_pool(self) -> list[Extension]:
        """What the pool was extended by."""
        return [entry for entry in self._added if entry.kind == POOL]

    @cached_property
    def pool_parts(self) -> dict[str, Iterable[Atoms]]:
        """The pool as it was at the start, and what was added to it, by name."""
        return pool_parts(self.folder, self.plan.pool, self.plan.potential.elements)

    @property
    def pool(self) -> Iterable[Atoms]:
        """Structures to choose from; those added stand behind the others."""
        return LongerPool(tuple(self.pool_parts.values()))

    @cached_property
    def _own_labels(self) -> dict[Extension, LabelledFrames]:
        return {entry: labels_in(self.folder, entry) for entry in self._added if entry.kind == LABELS}

    @property
    def start_parts(self) -> dict[str, Sequence[Atoms]]:
        """Structures that came with their labels, at the start and since, by name."""
        return {
            "start": self.plan.start,
            **{entry.name: frames.structures for entry, frames in self._own_labels.items()},
        }

    @cached_property
    def start(self) -> dict[str, Atoms]:
        """id → structure that came with its label."""
        return {structure_id(atoms): atoms for part in self.start_parts.values() for atoms in part}

    def start_of(self, number: int) -> dict[str, Atoms]:
        """The same as a round knew it."""
        later = {
            structure_id(atoms)
            for entry, frames in self._own_labels.items()
            if entry.round > number
            for atoms in frames.structures
        }
        return {name: atoms for name, atoms in self.start.items() if name not in later}

    @property
    def isolated(self) -> list[Atoms]:
        """Labelled isolated atoms."""
        added = (atoms for frames in self._own_labels.values() for atoms in frames.isolated)
        return [*self.plan.isolated, *added]

    def references(self, elements: set[int]) -> dict[int, float]:
        """Reference energies from isolated atoms, where these cover the elements of the data; else none.

        Args:
            elements: of the pool.
        """
        found = reference_energies(self.isolated)
        if not found:
            return {}
        labelled = (*self.start.values(), *self.plan.test)
        elements = elements.union(*(set(atoms.numbers.tolist()) for atoms in labelled))
        names = " ".join(chemical_symbols[z] for z in sorted(found))
        lacking = " ".join(chemical_symbols[z] for z in sorted(elements - found.keys()))
        if lacking:
            notice(
                f"the isolated atoms {names} do not cover {lacking} of the data: set aside; reference "
                "energies are fitted to the labels"
            )
            return {}
        notice(f"reference energies are those of the isolated atoms {names}, not fitted to the labels")
        return {z: energy for z, energy in found.items() if z in self.plan.potential.elements}
