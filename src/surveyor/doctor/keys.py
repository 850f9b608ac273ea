"""Checks of the labels' names, presence and values."""

from __future__ import annotations

from collections import Counter

import numpy as np

from surveyor.doctor.dataset import Dataset, Role
from surveyor.doctor.findings import Verdict, error, frames_text, ok, warning
from surveyor.structures.label_keys import acted_on, is_isolated_atom
from surveyor.structures.labels import ENERGY_KEY, FORCES_KEY

RENAME = "atoms.info['REF_energy'] = …; atoms.arrays['REF_forces'] = …, then write the file again"


def keys(data: Dataset) -> Verdict:
    """Labels stand under REF_energy and REF_forces, in every frame that has any."""
    energies, forces = Counter(data.energy_name), Counter(data.forces_name)
    names = Counter({key: n for key, n in (energies + forces).items() if key is not None})
    if not names:
        if data.role.needs_labels:
            return error("no energies and no forces", f"label the frames; {_needed(data.role)}")
        return ok("no labels: a pool")
    others = {key: n for key, n in names.items() if key not in (ENERGY_KEY, FORCES_KEY)}
    if not others:
        return ok(f"{ENERGY_KEY} in {energies[ENERGY_KEY]} frames, {FORCES_KEY} in {forces[FORCES_KEY]}")
    found = ", ".join(f"'{key}' in {n} frames" for key, n in sorted(names.items(), key=lambda item: -item[1]))
    if energies[ENERGY_KEY] or forces[FORCES_KEY]:
        return error(f"labels under several names: {found}", f"use one pair of names: {RENAME}")
    if data.role in (Role.POOL, Role.TARGET):
        return ok(f"{found}: not read as labels")
    if names.keys() == {"energy", "forces"}:
        text = f"{found}: read as labels, in ASE's units"
        if data.role.needs_labels:
            return ok(text)
        return warning(f"{text}; other programs look for {ENERGY_KEY} and {FORCES_KEY}", RENAME)
    text = f"{found}: not read as labels, which are {ENERGY_KEY} and {FORCES_KEY}"
    if data.role.needs_labels:
        return error(text, RENAME)
    return warning(text, f"if these are labels: {RENAME}; for a pool nothing needs to be done")


def _needed(role: Role) -> str:
    return "the test set measures the errors" if role is Role.TEST else "the start set is trained on"


def missing_labels(data: Dataset) -> Verdict:
    """Where one frame has an energy and forces, every frame has both."""
    no_energy = np.array([name is None for name in data.energy_name])
    no_forces = np.array([name is None for name in data.forces_name])
    no_forces &= ~np.array([is_isolated_atom(atoms) for atoms in data.structures])  # an energy is enough
    lacking = no_energy | no_forces
    if not lacking.any():
        return ok(f"{len(data)} of {len(data)} frames have both")
    parts = [
        f"no {what} in {int(mask.sum())} of {len(data)} ({frames_text(mask)})"
        for what, mask in (("energy", no_energy), ("forces", no_forces))
        if mask.any()
    ]
    todo = "label these frames, or take them out: training and errors need both"
    return (error if data.role.needs_labels else warning)("; ".join(parts), todo)


def finite_labels(data: Dataset) -> Verdict:
    """Energies are finite numbers and forces finite arrays of shape (n_atoms, 3)."""
    strange: list[int] = []
    shapes: list[int] = []
    for number, (name, energy, forces) in enumerate(
        zip(data.energy_name, data.energy, data.forces, strict=True)
    ):
        if forces is not None and forces.shape != (len(data.structures[number]), 3):
            shapes.append(number)
        elif (name is not None and not np.isfinite(energy)) or (
            forces is not None and not np.isfinite(forces).all()
        ):
            strange.append(number)
    if shapes:
        shape = getattr(data.forces[shapes[0]], "shape", ())
        return error(
            f"forces of shape {shape} for {len(data.structures[shapes[0]])} atoms in {frames_text(shapes)}",
            "write forces as three columns, one row per atom",
        )
    if strange:
        return error(
            f"NaN, inf or no number in the labels of {frames_text(strange)}",
            "take these frames out, or label them again",
        )
    return ok("all finite")


def placeholders(data: Dataset) -> Verdict:
    """A non-periodic frame of three or more atoms whose forces are all exactly 0 holds no computed forces."""
    zero = [
        number
        for number in np.flatnonzero(data.labelled).tolist()
        if len(data.structures[number]) > 2
        and not data.structures[number].pbc.any()
        and not np.any(data.forces[number])
    ]
    if zero:
        return error(
            f"forces of exactly 0 on every atom of {frames_text(zero)}",
            "zeros that stand for 'not computed' would be learnt: take the frames out or compute the forces",
        )
    return ok("no zeros in the place of forces")


def acting_keys(data: Dataset) -> Verdict:
    """No key beside the labels on which mace-torch's reader acts, weights of frames above all."""
    found = Counter(key for atoms in data.structures for key in acted_on(atoms))
    if not found:
        return ok("none")
    names = ", ".join(f"{key} in {n} of {len(data)} frames" for key, n in found.most_common())
    return warning(
        f"{names}: mace-torch acts on these; campaigns take them off and train on all labels alike",
        "take the keys out of the file if other programs train on it",
    )
