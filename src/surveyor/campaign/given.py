"""What a campaign was given, at its start and since."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from ase import Atoms
from ase.data import chemical_symbols

from surveyor.campaign.extension import check_extensions, extended_pool, own_labels
from surveyor.campaign.inputs import INPUTS, check_inputs
from surveyor.campaign.own_potentials import record_old_ones
from surveyor.campaign.plan import Plan
from surveyor.errors import notice
from surveyor.structures.identity import structure_id
from surveyor.structures.label_keys import reference_energies


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

    @cached_property
    def pool(self) -> Iterable[Atoms]:
        """Structures to choose from; those added stand behind the others."""
        return extended_pool(self.folder, self.plan.pool, self.plan.potential.elements)

    @cached_property
    def start(self) -> dict[str, Atoms]:
        """id → structure that came with its label."""
        return self.start_of(None)

    def start_of(self, number: int | None) -> dict[str, Atoms]:
        """The same as a round knew it; None: all of them."""
        given = [*self.plan.start, *own_labels(self.folder, number).structures]
        return {structure_id(atoms): atoms for atoms in given}

    def references(self, elements: set[int]) -> dict[int, float]:
        """Reference energies from isolated atoms, where these cover the elements of the data; else none.

        Args:
            elements: of the pool.
        """
        found = reference_energies([*self.plan.isolated, *own_labels(self.folder).isolated])
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
