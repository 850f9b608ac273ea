"""Whether a correction pays: judged on labelled structures that nothing was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from ase import Atoms

from surveyor.learner.potential import (
    TangentPotential,
    correction,
    fit_tangent,
    force_tangent,
    labelled_rows,
)
from surveyor.learner.settings import TangentSettings
from surveyor.linearised import Rows
from surveyor.metrics import enough_held_out, errors, pays, relative_change
from surveyor.potentials.base import Differentiable, require
from surveyor.types import Potential

ENERGIES, BOTH = "energies", "energies and forces"
UNTRAINED = f"{BOTH}, on the pretrained potential"
"""What a correction learns from, in the order in which they are tried."""

ALONE = f"{BOTH}, nothing trained"

GAIN = 0.1
"""By which energy and force errors have to fall, each over what it was, in sum. Held-out structures lie where
labels are; what a correction brings shows elsewhere, and a test of significance turned down one that took the
errors along paths of reactions from 11.0 to 1.7 meV/atom and from 42 to 32 meV/Å."""

FEW_LABELS = 100
"""Labels up to which the pretrained potential is a candidate: with more, its correction lost to that of the
trained one on every task that was measured, and its rows cost as much again."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The potential that is kept, and what the others would have been worth.

    | variable  | meaning                                                                | unit            |
    |-----------|------------------------------------------------------------------------|-----------------|
    | potential | the base, or a potential with a correction that has seen the held-out labels as well |   |
    | chosen    | `none`, `ENERGIES`, `BOTH`, `UNTRAINED` or `ALONE`                     |                 |
    | held_out  | number of structures that judged, or would have                        |                 |
    | errors    | candidate → mean errors of energies and forces on them                 | meV/atom, meV/Å |
    """

    potential: Potential
    chosen: str
    held_out: int
    errors: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        if self.chosen == ALONE:
            return "tangent correction of the pretrained potential, learnt from all labels"
        if not self.errors:
            return f"no tangent correction: {self.held_out} held-out structures are too few to judge one"
        kind = self.chosen if self.chosen != "none" else BOTH
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
    pretrained: Potential | None = None,
) -> Choice:
    """Correct a potential where held-out structures gain by it; a tie goes to the simpler.

    A candidate replaces the simpler one before it if it `pays`: by more than chance between the groups of
    held-out structures. One from energies and forces needs no more than a tenth of their errors, `GAIN`.
    What is kept is fitted once more to all labels, with a λ that has seen the residuals of held-out
    structures, to which the base was not trained.

    Nothing needs to judge where the base is the pretrained potential but for reference energies: no label was
    learnt from before, and λ, by leave-one-out errors of all of them, says how far each is to be trusted.

    Args:
        base: the potential, trained on `train`.
        train: what the correction is fitted to.
        held_out: what judges; neither the base nor the correction has learnt from it.
        settings: of the tangent rows.
        origin: what the base was opened from; see `TangentPotential`.
        pretrained: what the base was trained from, where that is a candidate too: with few labels its tangent
            features may be worth more than a training. Up to `FEW_LABELS`.

    Raises:
        PotentialError: the base is not `Differentiable`.
        StructureError: a structure has no labels.
    """
    if pretrained is not None and _same(base, pretrained):
        alone = fit_tangent(base, [*train, *held_out], settings, origin=origin)
        return Choice(alone, ALONE, len(held_out), {})
    if not enough_held_out(held_out):
        return Choice(base, "none", len(held_out), {})
    before = errors(base, held_out)
    found = {"none": (before.energy_mae, before.force_mae)}
    best: tuple[str, TangentPotential, Rows] | None = None
    labelled = [*train, *held_out]
    other = pretrained if len(labelled) <= FEW_LABELS else None
    for name, candidate, rows in _candidates(base, labelled, len(train), settings, origin, other):
        after = errors(candidate, held_out)
        found[name] = (after.energy_mae, after.force_mae)
        enough = name == BOTH and relative_change(before, after) < -GAIN
        if enough or pays(before, after, held_out):
            best, before = (name, candidate, rows), after
    if best is None:
        return Choice(base, "none", len(held_out), found)
    name, kept, rows = best
    weight = kept.regression.energy_weight
    whole = correction(kept.base, rows, settings, energy_weight=weight, origin=kept.origin)
    return Choice(whole, name, len(held_out), found)


def _same(base: Potential, pretrained: Potential) -> bool:
    """Whether nothing but reference energies was changed: their tangent features are the same."""
    models = [require(each, Differentiable, "a tangent correction").model for each in (base, pretrained)]
    own, other = (dict(model.named_parameters()) for model in models)
    return own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)


def _candidates(
    base: Potential,
    structures: Sequence[Atoms],
    count: int,
    settings: TangentSettings,
    origin: str | None,
    pretrained: Potential | None,
) -> Iterator[tuple[str, TangentPotential, Rows]]:
    """Corrections that the first `count` structures teach, with the rows of all."""
    rows = labelled_rows(force_tangent(base, settings), structures)
    for name, seen in ((ENERGIES, rows.of_energies()), (BOTH, rows)):
        fitted = correction(base, seen.first(count), settings, origin=origin)
        yield name, fitted, seen
    if pretrained is not None:
        rows = labelled_rows(force_tangent(pretrained, settings), structures)
        yield UNTRAINED, correction(pretrained, rows.first(count), settings), rows
