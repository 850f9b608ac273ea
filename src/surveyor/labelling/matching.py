"""Which structure of a batch does a result belong to?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from surveyor.errors import StructureError
from surveyor.structures.comparison import compare
from surveyor.structures.identity import stated_charge, stated_spin, structure_id, total_charge, total_spin
from surveyor.types import Labels

TOLERANCE = 1e-3
"""Å; positions printed with three decimals still match."""

NET_TORQUE = 0.02
"""As a share of Σ|r × F|: more than that, and positions and forces are not in one frame."""

SMALL_TORQUE = 0.05
"""eV; Σ|r × F| below it says nothing."""


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


def match(
    result: Atoms, labels: Labels, batch: Mapping[str, Atoms], *, tolerance: float = TOLERANCE, align: bool
) -> Match:
    """The one structure of the batch that the result is of.

    The content decides: the same elements at the same places within the tolerance, with the atoms in any
    order, and the same charge and spin where the result names them. An equal content hash goes before near
    ones, and the id that a result carries decides among near ones. A result that was moved or turned is of no
    structure unless `align` is set: then both are undone and the forces turned back, F → F Rᵀ, if the net
    torque says that positions and forces are in one frame.

    Args:
        labels: of the result.
        batch: id → structure.
        tolerance: largest displacement of an atom, Å.
        align: undo shift and rotation of molecules.
    """
    carried = result.info.get("surveyor_id")
    carried = None if carried is None else str(carried)
    places = [_place(result, labels, name, atoms, tolerance) for name, atoms in batch.items()]
    if align and not any(place.name for place in places):
        places = [
            _turned_back(result, labels, name, atoms, tolerance, place)
            for place, (name, atoms) in zip(places, batch.items(), strict=True)
        ]
    near = {place.name: place for place in places if place.name}
    if not near:
        return _no_match(places)
    exact = [name for name in near if _same_content(result, batch[name], name)]
    chosen = exact or ([carried] if carried in near else list(near))
    if len(chosen) > 1:
        names = ", ".join(name[:8] for name in chosen)
        return Match(None, reason=f"ambiguous: {len(chosen)} structures are like it: {names}")
    if carried in batch and carried != chosen[0]:
        return Match(
            None, reason=f"carries the id {str(carried)[:8]}, but its geometry is that of {chosen[0][:8]}"
        )
    return near[chosen[0]]


def _same_content(result: Atoms, atoms: Atoms, name: str) -> bool:
    """Equal content hashes, where a result that does not name charge and spin has those of the structure."""
    trial = Atoms(result.numbers, result.positions, cell=result.cell, pbc=result.pbc)
    trial.info = {"total_charge": total_charge(atoms), "total_spin": total_spin(atoms)}
    return structure_id(trial) == name


def _no_match(places: list[Match]) -> Match:
    if not places:
        return Match(None, reason="the batch is empty")
    closest = min(places, key=lambda place: place.offset)
    more = len(places) > 1 and np.isfinite(closest.offset)
    return Match(
        None, reason=f"like nothing of the batch; the closest: {closest.reason}" if more else closest.reason
    )


def _place(result: Atoms, labels: Labels, name: str, atoms: Atoms, tolerance: float) -> Match:
    """The result as one of this structure, or the reason why it is not."""
    try:
        states = [
            ("total_charge", stated_charge(result), total_charge(atoms)),
            ("total_spin", stated_spin(result), total_spin(atoms)),
        ]
    except StructureError as error:
        return Match(None, offset=np.inf, reason=error.got)
    for key, said, wanted in states:
        if said is not None and said != wanted:
            return Match(None, offset=np.inf, reason=f"{key} {said}, not {wanted}")
    found = compare(atoms, result, tolerance)
    if found.order is not None:
        forces = labels.forces[found.order]
        return Match(name, Labels(labels.energy, forces, labels.stress), found.offset)
    superposed = _superposed(result, atoms, tolerance)
    if superposed is None:
        return Match(None, offset=found.offset, reason=found.reason)
    return Match(
        None, offset=0.0, reason=f"{name[:8]}, moved or turned as a whole; --align turns the forces back"
    )


def _turned_back(
    result: Atoms, labels: Labels, name: str, atoms: Atoms, tolerance: float, place: Match
) -> Match:
    """The result with shift and rotation undone; `place` where there is none to undo."""
    superposed = _superposed(result, atoms, tolerance)
    if superposed is None or not np.isfinite(place.offset):
        return place
    rotation, offset = superposed
    torques = np.cross(result.positions - result.positions.mean(axis=0), labels.forces)
    total = float(np.linalg.norm(torques, axis=1).sum())
    net = float(np.linalg.norm(torques.sum(axis=0)))
    # Forces of a relaxed structure are noise, and so is their torque.
    if total > SMALL_TORQUE and net > NET_TORQUE * total:
        reason = f"{name[:8]}, turned; positions and forces are not in one frame: net torque {net:.3g} eV"
        return Match(None, offset=0.0, reason=reason)
    return Match(name, Labels(labels.energy, rotation.apply(labels.forces), labels.stress), offset)


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
