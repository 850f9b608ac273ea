"""Whether a correction pays: judged on labelled structures that nothing was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from surveyor.learner.potential import TangentPotential, correction, force_tangent, labelled_rows
from surveyor.learner.settings import TangentSettings
from surveyor.metrics import Errors, errors
from surveyor.types import Potential

MIN_HELD_OUT = 3
"""Held-out structures, or groups of them, below which nothing is told apart: the potential stays as it is."""

SURE = 2.0
"""Standard errors by which a gain must lie above zero."""

KINDS = {"energies": False, "energies and forces": True}
"""What a correction learns from, the simpler first → with forces?"""


@dataclass(frozen=True, eq=False)
class Choice:
    """The potential that is kept, and what the others would have been worth.

    | variable  | meaning                                                                | unit            |
    |-----------|------------------------------------------------------------------------|-----------------|
    | potential | the base, or the base with a correction that has seen the held-out labels as well |      |
    | chosen    | `none`, or a key of `KINDS`                                            |                 |
    | held_out  | number of structures that judged                                       |                 |
    | errors    | candidate → mean errors of energies and forces on them                 | meV/atom, meV/Å |
    """

    potential: Potential
    chosen: str
    held_out: int
    errors: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        if not self.errors:
            return f"no tangent correction: {self.held_out} held-out structures are too few to judge one"
        kind = self.chosen if self.chosen != "none" else list(KINDS)[-1]
        energy, force = self.errors[kind]
        alone, alone_force = self.errors["none"]
        return (
            f"{'no ' if self.chosen == 'none' else ''}tangent correction ({kind}): errors of {self.held_out} "
            f"held-out structures {energy:.1f} meV/atom and {force:.0f} meV/Å with it, "
            f"{alone:.1f} and {alone_force:.0f} without"
        )


def choose_correction(
    base: Potential,
    train: Sequence[Atoms],
    held_out: Sequence[Atoms],
    settings: TangentSettings,
    *,
    origin: str | None = None,
) -> Choice:
    """Correct a potential where held-out structures gain by it; a tie goes to the simpler.

        d_g = mean over group g of  e_E / ē_E + e_F / ē_F,   after minus before (ē: means before)

    A candidate replaces the simpler one before it if the mean of d over groups lies more than `SURE` of its
    standard errors below zero. Groups are the `reaction` in info, where every held-out structure names one.

    Args:
        base: the potential, trained on `train`.
        train: what the correction is fitted to.
        held_out: what judges; neither the base nor the correction has learnt from it.
        settings: of the tangent rows.
        origin: what the base was opened from; see `TangentPotential`.

    Raises:
        PotentialError: the base is not `Differentiable`.
        StructureError: a structure has no labels.
    """
    groups = _groups(held_out)
    if len(set(groups)) < MIN_HELD_OUT:
        return Choice(base, "none", len(held_out), {})
    best, chosen, before = base, "none", errors(base, held_out)
    found = {"none": (before.energy_mae, before.force_mae)}
    rows = labelled_rows(force_tangent(base, settings), train)
    for name, forces in KINDS.items():
        candidate = correction(base, rows if forces else rows.of_energies(), settings, origin=origin)
        after = errors(candidate, held_out)
        found[name] = (after.energy_mae, after.force_mae)
        if _pays(before, after, groups):
            best, chosen, before = candidate, name, after
    if isinstance(best, TangentPotential):
        best = best.with_labels(held_out, forces=KINDS[chosen])
    return Choice(best, chosen, len(held_out), found)


def _groups(structures: Sequence[Atoms]) -> list[str]:
    named = [str(atoms.info.get("reaction", "")) for atoms in structures]
    return named if all(named) else [str(number) for number in range(len(structures))]


def _pays(before: Errors, after: Errors, groups: Sequence[str]) -> bool:
    """Whether the change of the errors is more than chance between groups."""
    change = np.zeros(len(groups))
    for old, new in ((before.energy_each, after.energy_each), (before.force_each, after.force_each)):
        change += (new - old) / max(float(old.mean()), np.finfo(np.float64).tiny)
    means = np.array([change[[g == name for g in groups]].mean() for name in sorted(set(groups))])
    return bool(means.mean() < -SURE * means.std(ddof=1) / np.sqrt(len(means)))
