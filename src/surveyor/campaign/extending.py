"""Adding structures to choose from, or labels of one's own, to a campaign."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from surveyor.campaign.extension import LABELS, POOL, Extension, keep_extension
from surveyor.campaign.given import Given
from surveyor.campaign.plan import Plan
from surveyor.campaign.records import read_campaign
from surveyor.errors import CampaignError, notice
from surveyor.structures.identity import structure_id
from surveyor.structures.label_keys import (
    LabelledFrames,
    is_isolated_atom,
    read_labelled,
    reference_energies,
    without_acting_keys,
)
from surveyor.structures.source import StructureFile


def extend(
    folder: Path, plan: Plan, *, pool: Path | None = None, labels: Path | None = None, method: str = ""
) -> list[Extension]:
    """Add structures to choose from, or labels of one's own, to a campaign; its lock is held.

    All of it is checked before any of it is kept.

    Args:
        folder: of the campaign.
        plan: its plan.
        pool: a file of structures; those that the campaign has already are left out.
        labels: a file of labelled structures, which join the start set.
        method: how the labels were made, in words.

    Raises:
        CampaignError: a structure is in the test set, or none is new; labels without a method.
        StructureError: a file cannot be used.
    """
    number = len(read_campaign(folder).rounds)
    elements = plan.potential.elements
    given = Given(folder, plan)
    new: list[tuple[str, Path, list[Atoms]]] = []
    if pool is not None:
        found = (without_acting_keys(atoms) for atoms in StructureFile(pool, elements))
        new.append((POOL, pool, _new(given, POOL, LabelledFrames(list(found)), pool)))
    if labels is not None:
        if not method.strip():
            raise CampaignError(
                f"{labels.name}: labels without a word on how they were made",
                expected="the method: labels of two methods must not mix",
                todo="--method 'wB97X-D3/def2-TZVP, ORCA 6', say",
            )
        frames = read_labelled(labels, elements)
        reference_energies([*given.isolated, *frames.isolated])
        new.append((LABELS, labels, _new(given, LABELS, frames, labels)))
    words = {POOL: "", LABELS: method.strip()}
    return [
        keep_extension(folder, kind, frames, source=path, number=number, method=words[kind])
        for kind, path, frames in new
    ]


def _new(given: Given, kind: str, frames: LabelledFrames, source: Path) -> list[Atoms]:
    """What of a file is new to the campaign; isolated atoms are no choice, and none of them a repetition."""
    mine = [*frames.structures, *frames.isolated]
    ids = [structure_id(atoms) for atoms in mine]
    test = {structure_id(atoms) for atoms in given.plan.test}
    if leaked := [number for number, name in enumerate(ids) if name in test]:
        raise CampaignError(
            f"{source.name}: {len(leaked)} of its structures are in the test set (first: {ids[leaked[0]]})",
            expected="structures that no error is measured on",
            todo="take them out of the file",
        )
    known = {*given.start}
    if kind == POOL:
        known.update(structure_id(atoms) for atoms in given.pool)
    new = []
    for name, atoms in zip(ids, mine, strict=True):
        if name not in known or (kind == LABELS and is_isolated_atom(atoms)):
            known.add(name)
            new.append(atoms)
    if not new:
        raise CampaignError(
            f"{source.name}: none of its {len(ids)} structures is new to the campaign",
            expected="structures that it does not have yet",
        )
    if len(new) < len(ids):
        notice(f"{source.name}: {len(ids) - len(new)} of {len(ids)} structures are there already: left out")
    return new
