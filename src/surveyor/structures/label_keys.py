"""Labelled files as people have them: where the labels stand, and what else a trainer would act on.

| where                              | what becomes of it                                                    |
|------------------------------------|-----------------------------------------------------------------------|
| REF_energy, REF_forces, REF_stress | the labels                                                            |
| energy, forces, stress, as ASE     | the labels, where a file has no REF_*; a notice says so               |
| stores them                        |                                                                       |
| any other name                     | refused, in a message that names it                                   |
| config_weight, config_…_weight     | taken off, with a notice: mace-torch multiplies the loss by them      |
| head, dipole, polarizability, …    | taken off, with a notice: mace-torch reads them, Surveyor does not    |
| config_type=IsolatedAtom           | kept apart from the other frames                                      |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from surveyor.errors import StructureError, notice
from surveyor.structures.identity import total_charge
from surveyor.structures.labels import (
    ENERGY_KEY,
    FORCES_KEY,
    STRESS_KEY,
    labels_of,
    without,
    without_labels,
)
from surveyor.structures.source import StructureFile

_LIKELY = {
    "energy": (ENERGY_KEY, re.compile(r"(^|_)(energy|energies|e|etot|toten)(_|$)", re.IGNORECASE)),
    "forces": (FORCES_KEY, re.compile(r"(^f$|forces?(_|$)|grad)", re.IGNORECASE)),
    "stress": (STRESS_KEY, re.compile(r"stress|virial", re.IGNORECASE)),
}
_NO_LABEL = re.compile(
    r"kin|bind|form|adsor|homo|lumo|gap|zero|atomi[sz]|disp|err|std|var|weight", re.IGNORECASE
)

_WEIGHT = re.compile(r"^config_(\w+_)?weight$")
_READ_BY_TRAINER = ("head", "dipole", "polarizability", "elec_temp", "REF_virials", "REF_charges")

_SAME_ENERGY = 1e-6
"""eV; reference energies of one element that differ by more contradict each other."""


@dataclass(frozen=True)
class LabelledFrames:
    """The frames of a labelled file, labels under the `REF_*` keys, and nothing else that a trainer acts on.

    Those with `config_type=IsolatedAtom` stand apart.
    """

    structures: Sequence[Atoms] = ()
    isolated: Sequence[Atoms] = ()


def read_labelled(
    path: Path, elements: Sequence[int] | None = None, *, energy_alone: bool = False
) -> LabelledFrames:
    """Read and check a labelled file.

    Args:
        path: any file that `read_structures` reads.
        elements: atomic numbers that the potential knows; None accepts all.
        energy_alone: whether `REF_energy` without forces is a label: enough for a test, not for training.

    Raises:
        StructureError: a frame without labels, with labels under other names or under several, or with a
            label that is not finite or of a wrong shape.
    """
    structures: list[Atoms] = []
    isolated: list[Atoms] = []
    used: dict[tuple[str, ...], int] = {}
    acting: dict[str, list[object]] = {}
    unbounded: list[int] = []
    for number, atoms in enumerate(StructureFile(path, elements)):
        where = f"{path.name}, frame {number}"
        keys, labelled = _under_own_keys(atoms, where, energy_alone)
        used.setdefault(keys, number)
        for key in acted_on(labelled):
            acting.setdefault(key, []).append(labelled.info.get(key))
        bare = without_acting_keys(labelled)
        if STRESS_KEY in bare.info and not bare.pbc.any():
            del bare.info[STRESS_KEY]
            unbounded.append(number)
        if is_isolated_atom(bare):
            isolated.append(bare)
        else:
            if FORCES_KEY in bare.arrays or not energy_alone:
                labels_of(bare, where)
            structures.append(bare)
    _check_one_pair(used, path)
    say_what_was_taken_off(path.name, acting)
    if unbounded:
        notice(
            f"{path.name}: {STRESS_KEY} in {len(unbounded)} frames that are not periodic (the first: "
            f"{unbounded[0]}): taken off, a molecule has no volume"
        )
    return LabelledFrames(structures, isolated)


def is_isolated_atom(atoms: Atoms) -> bool:
    """Whether a frame is one atom that is named an isolated atom, as in data sets for training."""
    kind = re.sub(r"[^a-z]", "", str(atoms.info.get("config_type", "")).lower())
    return len(atoms) == 1 and kind == "isolatedatom"


def acted_on(atoms: Atoms) -> list[str]:
    """Keys of a frame, labels apart, that mace-torch's reader acts on."""
    return [key for key in (*atoms.info, *atoms.arrays) if _is_acted_on(key)]


def _is_acted_on(key: str) -> bool:
    return _WEIGHT.match(key) is not None or key in _READ_BY_TRAINER


def without_acting_keys(atoms: Atoms) -> Atoms:
    """The frame without what mace-torch's reader acts on, labels apart; itself if there is nothing."""
    return without(atoms, _is_acted_on) if acted_on(atoms) else atoms


def say_what_was_taken_off(name: str, acting: dict[str, list[object]]) -> None:
    """One notice about a file; `acting` maps a key to the values that it had, one per frame."""
    if not acting:
        return
    parts = [f"{key} in {len(values)} frames{_range(values)}" for key, values in sorted(acting.items())]
    what = "weigh these frames by it" if any(_WEIGHT.match(key) for key in acting) else "read that"
    notice(
        f"{name}: {', '.join(parts)}: taken off; mace-torch would {what}, Surveyor trains on all labels alike"
    )


def _range(values: Sequence[object]) -> str:
    numbers = [float(value) for value in values if isinstance(value, int | float | np.number)]
    return f" ({min(numbers):g} to {max(numbers):g})" if numbers else ""


def likely(atoms: Atoms, what: str) -> Iterator[tuple[str, object]]:
    """Key and value of what may be the energy, forces or stress, the likeliest first.

    ASE moves what stands under `energy`, `forces` and `stress` into a calculator.
    """
    key, pattern = _LIKELY[what]
    held = atoms.arrays if what == "forces" else atoms.info
    if key in held:
        yield key, held[key]
    if what in (results := _results(atoms)):
        yield what, results[what]
    for other, value in held.items():
        if (
            pattern.search(other)
            and not _NO_LABEL.search(other)
            and (what != "energy" or np.ndim(value) == 0)
        ):
            yield other, value
    if what == "forces" and key in atoms.info:  # a list in the comment line, not a column: of the wrong shape
        yield key, atoms.info[key]


def _results(atoms: Atoms) -> dict[str, object]:
    return dict(getattr(atoms.calc, "results", None) or {})


def _under_own_keys(atoms: Atoms, where: str, energy_alone: bool) -> tuple[tuple[str, ...], Atoms]:
    """The keys that hold the labels, and the frame with its labels under `REF_*`."""
    alone = is_isolated_atom(atoms)
    if ENERGY_KEY in atoms.info or FORCES_KEY in atoms.arrays:
        bare = energy_alone and FORCES_KEY not in atoms.arrays
        if (alone or bare) and ENERGY_KEY in atoms.info:
            return (), _with_energy(atoms, atoms.info[ENERGY_KEY], where)
        if not (ENERGY_KEY in atoms.info and FORCES_KEY in atoms.arrays):
            raise _no_labels(atoms, where)
        labels_of(atoms, where)
        labelled = atoms.copy()
        labelled.calc = None
        return (ENERGY_KEY, FORCES_KEY), labelled
    results = _results(atoms)
    energy = results.get("energy", atoms.info.get("energy"))
    free = results.get("free_energy", atoms.info.get("free_energy"))
    forces = results.get("forces", atoms.arrays.get("forces"))
    keys = ["energy", "forces"]
    if energy is None or (free is not None and abs(float(free) - float(energy)) > _SAME_ENERGY):  # type: ignore[arg-type]
        keys[0], energy = "free_energy", free  # with smearing, this is what the forces are the gradient of
    if alone and energy is not None:
        return (), _with_energy(atoms, energy, where)
    if energy is None or forces is None:
        raise _no_labels(atoms, where)
    labelled = without_labels(atoms)
    labelled.info[ENERGY_KEY] = energy
    labelled.arrays[FORCES_KEY] = np.asarray(forces)
    stress = results.get("stress", atoms.info.get("stress"))
    if stress is not None and atoms.pbc.all():
        keys.append("stress")
        labelled.info[STRESS_KEY] = np.asarray(stress)
    return tuple(keys), labelled


def _with_energy(atoms: Atoms, energy: object, where: str) -> Atoms:
    """The frame with an energy and nothing else; an isolated atom needs no more."""
    try:
        value = float(energy)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        raise StructureError(
            f"{where}: {'an isolated atom' if len(atoms) == 1 else 'a frame'} with the energy {energy!r}",
            expected=f"info['{ENERGY_KEY}'], a finite number in eV",
            todo="take the frame out, or give its energy",
        )
    bare = without_labels(atoms)
    bare.info[ENERGY_KEY] = value
    return bare


def _no_labels(atoms: Atoms, where: str) -> StructureError:
    energies, forces = ([key for key, _ in likely(atoms, what)] for what in ("energy", "forces"))
    lacking = [k for k, there in ((ENERGY_KEY, atoms.info), (FORCES_KEY, atoms.arrays)) if k not in there]
    present = dict.fromkeys([*atoms.info, *atoms.arrays, *_results(atoms)])
    maybe = ", ".join(dict.fromkeys([*energies, *forces]))
    others = [key for key in present if key not in ("numbers", "positions")]
    found = (
        f"what may be labels stands under {maybe}" if energies and forces
        else f"keys present: {', '.join(others)}" if others
        else "no other keys either"
    )  # fmt: skip
    return StructureError(
        f"{where}: no {' and '.join(lacking)}; {found}",
        expected=f"info['{ENERGY_KEY}'] in eV and arrays['{FORCES_KEY}'] in eV/Å, or ASE's energy and forces",
        todo="label the structure, or rename the keys: atoms.info['REF_energy'] = …, "
        "atoms.arrays['REF_forces'] = …, in these units",
    )


def _check_one_pair(used: dict[tuple[str, ...], int], path: Path) -> None:
    """One pair of keys per file, which a notice names where it is not the usual one."""
    pairs = {keys[:2]: number for keys, number in reversed(used.items()) if keys}
    if len(pairs) > 1:
        places = " and ".join(
            f"{', '.join(keys)} (frame {number})"
            for keys, number in sorted(pairs.items(), key=lambda p: p[1])
        )
        raise StructureError(
            f"{path.name}: labels under several names: {places}",
            expected="one pair of names in a file",
            todo="check that all are of one method, and use one pair of names",
        )
    for keys in pairs:
        if keys != (ENERGY_KEY, FORCES_KEY):
            longest = max((k for k in used if k), key=len)
            notice(
                f"{path.name}: no {ENERGY_KEY} and {FORCES_KEY}: the labels are read from "
                f"{', '.join(longest)}, in ASE's units"
            )


def reference_energies(isolated: Iterable[Atoms]) -> dict[int, float]:
    """Atomic number → energy of the isolated neutral atom, eV; ions are passed over.

    Raises:
        StructureError: two frames of one element contradict each other.
    """
    found: dict[int, float] = {}
    ions: Counter[str] = Counter()
    for atoms in isolated:
        z, energy = int(atoms.numbers[0]), float(atoms.info[ENERGY_KEY])
        if total_charge(atoms) != 0:
            ions[str(atoms.symbols)] += 1
        elif abs(found.setdefault(z, energy) - energy) > _SAME_ENERGY:
            raise StructureError(
                f"two isolated atoms of {atoms.symbols}: {found[z]:g} and {energy:g} eV",
                expected="one energy per element",
                todo="keep the frame whose energy is the reference, and take the other out",
            )
    if ions:
        notice(f"isolated ions ({', '.join(ions)}) are no reference energies: set aside")
    return found
