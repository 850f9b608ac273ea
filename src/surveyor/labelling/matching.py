"""Which structure of a batch does a result belong to?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from surveyor.errors import StructureError
from surveyor.labelling.likely import Candidates
from surveyor.labelling.rigid import imbalance, undecided
from surveyor.structures.comparison import compare
from surveyor.structures.identity import (
    MOMENTS,
    stated_charge,
    stated_spin,
    structure_id,
    total_charge,
    total_spin,
)
from surveyor.types import Float64Array, IndexArray, Labels

TOLERANCE = 1e-3
"""Å; positions printed with three decimals still match."""

SAME_STATE = 1e-3
"""Initial moments and charges that agree better are those of the structure."""


@dataclass(frozen=True, eq=False)
class Match:
    """Outcome of `match`.

    | field  | meaning                                                                        | unit |
    |--------|--------------------------------------------------------------------------------|------|
    | name   | id of the structure, or None                                                   |      |
    | labels | in the orientation and the atom order of that structure                        |      |
    | offset | largest distance of an atom of the result from its place                       | Å    |
    | reason | why there is no match, or empty                                                |      |
    """

    name: str | None
    labels: Labels | None = None
    offset: float = 0.0
    reason: str = ""


def match(result: Atoms, labels: Labels, batch: Candidates, *, align: bool, certain: bool = False) -> Match:
    """The one structure of the batch that the result is of, if its forces belong to its geometry.

    The content decides: the same elements at the same places within the tolerance, with the atoms in any
    order, and the same charge and spin where the result names them. An equal content hash goes before near
    ones, and the id that a result carries decides among near ones. A result that was moved or turned is of no
    structure unless `align` is set: then both are undone and the forces turned back, F → F Rᵀ.

    The forces on an isolated molecule must leave neither a net force nor a net torque. Where the atoms were
    turned or reordered, the torque also has to tell that the forces went along, unless it is `certain` that
    positions and forces of the result stand in one frame and one order.
    """
    carried = result.info.get("surveyor_id")
    carried = None if carried is None else str(carried)
    likely = dict(batch.like(result))
    places = [_place(result, labels, name, atoms, batch.tolerance, certain) for name, atoms in likely.items()]
    if align and not any(place.name for place in places):
        places = [
            _turned_back(result, labels, name, atoms, batch.tolerance, certain, place)
            for place, (name, atoms) in zip(places, likely.items(), strict=True)
        ]
    near = {place.name: place for place in places if place.name}
    if not near:
        return _no_match(places, result, labels, batch)
    exact = [name for name in near if _same_content(result, likely[name], name)]
    chosen = exact or list(near)
    if len(chosen) > 1 and carried in chosen:
        chosen = [carried]
    if len(chosen) > 1:
        names = ", ".join(name[:8] for name in chosen)
        return Match(None, reason=f"ambiguous: {len(chosen)} structures are like it: {names}")
    if carried in batch.structures and carried != chosen[0]:
        return Match(
            None, reason=f"carries the id {carried[:8]}, but its geometry is that of {chosen[0][:8]}"
        )
    return near[chosen[0]] if near[chosen[0]].labels is not None else replace(near[chosen[0]], name=None)


def _same_content(result: Atoms, atoms: Atoms, name: str) -> bool:
    """Equal content hashes, where a result that does not name its state has that of the structure."""
    trial = Atoms(result.numbers, result.positions, cell=result.cell, pbc=result.pbc)
    trial.info = {"total_charge": total_charge(atoms), "total_spin": total_spin(atoms)}
    for key in MOMENTS:
        if atoms.has(key):
            trial.set_array(key, atoms.arrays[key])
    return structure_id(trial) == name


def _no_match(places: list[Match], result: Atoms, labels: Labels, batch: Candidates) -> Match:
    if not batch.structures:
        return Match(None, reason="the batch is empty")
    if not places:
        name, atoms = batch.nearest(result)
        places = [_place(result, labels, name, atoms, batch.tolerance, False)]
    closest = min(places, key=lambda place: place.offset)
    more = len(batch.structures) > 1 and np.isfinite(closest.offset)
    return Match(
        None, reason=f"like nothing of the batch; the closest: {closest.reason}" if more else closest.reason
    )


def _place(result: Atoms, labels: Labels, name: str, atoms: Atoms, tolerance: float, certain: bool) -> Match:
    """The result as one of this structure, or the reason why it is not.

    A name without labels: it is of this structure, but its forces cannot be.
    """
    if reason := _other_state(result, atoms):
        return Match(None, offset=np.inf, reason=reason)
    found = compare(atoms, result, tolerance)
    if found.order is not None:
        forces = labels.forces[found.order]
        if reason := _other_arrays(result, atoms, found.order):
            return Match(None, offset=np.inf, reason=reason)
        if not atoms.pbc.any() and (reason := _misfit(atoms.positions, forces, labels.forces, certain)):
            return Match(name, None, found.offset, f"{name[:8]}: {reason}")
        return Match(name, replace(labels, forces=forces), found.offset)
    if _superposed(result, atoms, tolerance) is None:
        return Match(None, offset=found.offset, reason=found.reason)
    return Match(
        None, offset=0.0, reason=f"{name[:8]}, moved or turned as a whole; --align turns the forces back"
    )


def _misfit(positions: Float64Array, moved: Float64Array, unmoved: Float64Array, certain: bool) -> str:
    """Why these forces are not known to be those of a molecule at these positions, or empty."""
    if fault := imbalance(positions, moved):
        return f"positions and forces are not in one frame or order: {fault}"
    if not certain and (doubt := undecided(positions, moved, unmoved)):
        return f"turned or reordered, and {doubt}; give it as it was exported, or the program's own output"
    return ""


def _other_state(result: Atoms, atoms: Atoms) -> str:
    """Why charge or spin say that it is another structure, or empty."""
    try:
        states = [
            ("total_charge", stated_charge(result), total_charge(atoms)),
            ("total_spin", stated_spin(result), total_spin(atoms)),
        ]
    except StructureError as error:
        return error.got
    differing = [f"{key} {said}, not {wanted}" for key, said, wanted in states if said not in (None, wanted)]
    return differing[0] if differing else ""


def _other_arrays(result: Atoms, atoms: Atoms, order: IndexArray) -> str:
    """Why magnetic moments or charges of the atoms say that it is another structure, or empty.

    A result that names none, or zeros throughout, says nothing.
    """
    for key in MOMENTS:
        if not (result.has(key) and atoms.has(key)):
            continue
        here, there = result.arrays[key][order], atoms.arrays[key]
        if here.shape != there.shape or (here.any() and np.abs(here - there).max() > SAME_STATE):
            return f"{key} are not those of the structure"
    return ""


def _turned_back(
    result: Atoms, labels: Labels, name: str, atoms: Atoms, tolerance: float, certain: bool, place: Match
) -> Match:
    """The result with shift and rotation undone; `place` where there is none to undo."""
    superposed = _superposed(result, atoms, tolerance)
    if superposed is None or not np.isfinite(place.offset):
        return place
    rotation, offset = superposed
    forces = rotation.apply(labels.forces)
    if reason := _misfit(atoms.positions, forces, labels.forces, certain):
        return Match(None, offset=0.0, reason=f"{name[:8]}: {reason}")
    return Match(name, replace(labels, forces=forces), offset)


def _superposed(result: Atoms, atoms: Atoms, tolerance: float) -> tuple[Rotation, float] | None:
    """The proper rotation of the result onto the structure, and the largest displacement left (Å).

    Atoms keep their order; mirror images are other structures. None where no rotation superposes them.
    """
    if len(result) != len(atoms) or (result.numbers != atoms.numbers).any():
        return None
    if len(atoms) < 2 or atoms.pbc.any() or result.pbc.any():
        return None
    there = atoms.positions - atoms.positions.mean(axis=0)
    here = result.positions - result.positions.mean(axis=0)
    with warnings.catch_warnings():
        # A linear molecule leaves the rotation about its axis open; its forces lie along the axis.
        warnings.simplefilter("ignore", UserWarning)
        rotation, _ = Rotation.align_vectors(there, here)
    offset = float(np.linalg.norm(rotation.apply(here) - there, axis=1).max())
    return (rotation, offset) if offset <= tolerance else None
